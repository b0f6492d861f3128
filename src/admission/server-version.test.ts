import { expect, test } from "vitest";
import { Failure, Scope, silentLogger } from "../base/index.ts";
import type { KubeClient } from "../kube/index.ts";
import { FakeClock } from "../testing/index.ts";
import { hasNativeSidecars, readServerVersion, startServerVersion } from "./server-version.ts";

for (const [answer, version, native] of [
  [{ major: "1", minor: "33" }, { major: 1, minor: 33 }, true],
  [{ major: "1", minor: "29+" }, { major: 1, minor: 29 }, true],
  [{ major: "1", minor: "28" }, { major: 1, minor: 28 }, false],
  [{ major: "2", minor: "0" }, { major: 2, minor: 0 }, true],
] as const) {
  test(`${JSON.stringify(answer)}: ${native ? "native sidecars" : "none"}`, () => {
    expect(readServerVersion(answer)).toEqual(version);
    expect(hasNativeSidecars(version)).toBe(native);
  });
}

for (const answer of [null, {}, { major: "1" }, { major: "one", minor: "" }, "1.33"])
  test(`${JSON.stringify(answer)} says no version`, () => expect(readServerVersion(answer)).toBeUndefined());

test("it is asked until it is known, and the last one known stays", async () => {
  const answers: readonly unknown[] = [
    new Failure("kube/unreachable", "away"),
    { major: "1", minor: "28" },
    {},
    { major: "1", minor: "29" },
  ];
  let asked = 0;
  const client = {
    json: () => {
      const answer = answers[asked++];
      return answer instanceof Failure ? Promise.reject(answer) : Promise.resolve(answer);
    },
  } as unknown as KubeClient;
  const [clock, scope] = [new FakeClock(), new Scope()];
  const version = startServerVersion(client, { clock, log: silentLogger }, scope);
  const minors: (number | undefined)[] = [];
  for (const waitMs of [0, 5_000, 600_000, 600_000]) {
    clock.advance(waitMs);
    await expect.poll(() => clock.pending, { interval: 1 }).toBe(1);
    minors.push(version.value?.minor);
  }
  expect(minors).toEqual([undefined, 28, 28, 29]);
  await scope.close();
  expect(clock.pending).toBe(0);
});
