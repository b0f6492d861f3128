import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Scope, systemClock } from "../../../base/index.ts";
import { scratchDir } from "../../../testing/index.ts";
import { startOutputPipe } from "./output-pipe.ts";

test("a program that opens /dev/stdout by name is heard, also when it is started again, to its last word", async () => {
  const scope = new Scope();
  const path = join(scratchDir(), "stdout");
  const lines: string[] = [];
  const fd = await startOutputPipe({ path, onLine: (line) => lines.push(line), clock: systemClock }, scope);
  for (const word of ["one", "two"]) {
    const program = spawn("sh", ["-c", `echo ${word} >> /dev/stdout; printf ${word}-last; echo`], {
      stdio: ["ignore", fd, "inherit"],
    });
    expect(await once(program, "exit")).toEqual([0, null]);
  }
  await scope.close();
  expect(lines).toEqual(["one", "one-last", "two", "two-last"]);
  expect(existsSync(path)).toBe(false);
});
