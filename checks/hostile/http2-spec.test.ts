import { spawn } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { everythingTo, managerOf, startRig, TestUpstream } from "../../src/proxy/l7/testing/rig.ts";
import { builtProgram } from "../built-program.ts";
import { needs } from "../requirements.ts";

/** Where h2spec asks for something else than we do, by the section and the case, and why we do not. */
const different: Readonly<Record<string, string>> = {
  "5.3.1 Sends HEADERS frame that depend on itself":
    "RFC 9113 §5.3 has done away with priorities; they are read and left",
  "5.3.1 Sends PRIORITY frame that depend on itself": "the same",
};

/** h2spec's report: of each case that failed, `section description`; and how many there were. */
function read(report: string): { readonly failed: readonly string[]; readonly passed: number } {
  const failed: string[] = [];
  let section = "";
  for (const line of report.slice(0, report.indexOf("\nFailures:")).split("\n")) {
    section = /^\s+(\d+(?:\.\d+)*)\. /.exec(line)?.[1] ?? section;
    const description = /× \d+: (.*)$/.exec(line)?.[1];
    if (description !== undefined) failed.push(`${section} ${description.trim()}`);
  }
  return { failed, passed: Number(/(\d+) passed/.exec(report)?.[1] ?? 0) };
}

test("h2spec finds no fault with the server side of HTTP/2 but those that are listed", async (context) => {
  needs(context, "h2spec");
  const behind = createServer((request, response) => {
    request.resume();
    request.on("end", () => response.end("x".repeat(5000)));
  });
  await new Promise<void>((resolve) => behind.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void behind.close());
  const { port } = behind.address() as AddressInfo;
  const rig = await startRig({
    manager: managerOf({ codecType: 2 }),
    table: everythingTo("app"),
    clusters: [new TestUpstream("app", [port])],
  });
  onTestFinished(() => rig.close());
  const program = builtProgram(process.env, "H2SPEC", "h2spec")!;
  const report = await new Promise<string>((resolve, reject) => {
    let text = "";
    const child = spawn(program, ["-h", "127.0.0.1", "-p", String(rig.port), "-o", "5", "--strict"]);
    child.stdout.setEncoding("utf8").on("data", (piece: string) => {
      text += piece;
    });
    child.once("error", reject).once("close", () => resolve(text));
  });
  const { failed, passed } = read(report);
  expect(failed, report.slice(report.indexOf("\nFailures:"))).toEqual(Object.keys(different));
  expect(passed).toBe(146 - failed.length);
}, 300_000);
