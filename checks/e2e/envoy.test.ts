import { expect, test } from "vitest";
import { dataPlanes } from "../../src/lab/index.ts";
import { needs } from "../requirements.ts";
import { isthmus } from "./isthmus.ts";

test("where applications name their proxy there is no Envoy, and that is said before anything starts", async (context) => {
  needs(context, "envoy");
  const refused = await isthmus([
    "demo",
    "--once",
    "--data-plane",
    "mixed",
    "--mode",
    "explicit",
    "--name",
    "envoy-no",
  ]);
  expect(refused.code).toBe(1);
  expect(refused.stdout).toMatch(/data plane "mixed" cannot be had in mode "explicit".*\(lab\/mode\)/);
});

const caller = "URI=spiffe://cluster.local/ns/foo/sa/sleep";

for (const dataPlane of dataPlanes.filter((one) => one !== "embedded")) {
  test(`the walkthrough's call works with the data plane ${dataPlane}, and its hops can be told`, async (context) => {
    needs(context, "envoy", "root", "netns", "iptables", "curl");
    const name = `envoy-${dataPlane}`;
    const demo = await isthmus(["demo", "--once", "--data-plane", dataPlane, "--mode", "netns", "--name", name], {
      timeoutMs: 170_000,
    });
    expect(demo, `${demo.stdout}\n${demo.stderr}`).toMatchObject({ code: 0 });
    expect(demo.stdout).toMatch(/^ *HTTP\/1\.1 200 OK$/m);
    expect(demo.stdout).toContain(caller);
    expect(demo.stdout).toContain("what crosses is TLSv1.3");
    expect(demo.stdout).not.toMatch(/^ *no {2}/m);
  });
}
