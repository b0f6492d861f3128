import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createLogger, Scope } from "../../base/index.ts";
import { createRoot } from "../../ca/index.ts";
import { FakeClock, scratchDir } from "../../testing/index.ts";
import { startRootFile } from "./root-file.ts";

const nowMs = Date.UTC(2030, 0, 1);
const first = createRoot({ nowMs })["root-cert.pem"];
const second = createRoot({ nowMs })["root-cert.pem"];

async function started() {
  const file = join(scratchDir(), "root-cert.pem");
  writeFileSync(file, first);
  const clock = new FakeClock(nowMs);
  const events: string[] = [];
  const log = createLogger({
    level: "info",
    name: "test",
    destination: { write: (line) => events.push(JSON.parse(line).event) },
  });
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const roots = await startRootFile(file, { clock, log }, scope);
  /** Lets it look once more; the file is read in real time. */
  const look = async () => {
    clock.advance(5_000);
    await expect.poll(() => clock.pending, { interval: 2 }).toBe(1);
  };
  return { file, clock, events, scope, roots, look };
}

test("a root that is written over the old one is told once", async () => {
  const { file, events, roots, look } = await started();
  expect(roots.value.roots).toHaveLength(1);
  await look();
  expect(events).toEqual([]);
  writeFileSync(file, first + second);
  await look();
  await look();
  expect(roots.value.roots).toHaveLength(2);
  expect(events).toEqual(["the mesh's root was changed"]);
});

test("a root that is gone, cut off or empty changes nothing and is said once, until it is back", async () => {
  const { file, events, roots, look } = await started();
  const before = roots.value;
  for (const damage of [
    () => rmSync(file),
    () => writeFileSync(file, first.slice(0, 200)),
    () => writeFileSync(file, ""),
  ]) {
    damage();
    await look();
    await look();
    expect(roots.value).toBe(before);
  }
  expect(events).toEqual(Array(3).fill("going on with the root that was read last"));
  writeFileSync(file, second);
  await look();
  expect(roots.value.pem).toBe(second);
});

test("nobody looks any more when it is over", async () => {
  const { clock, scope } = await started();
  await scope.close();
  expect(clock.pending).toBe(0);
});
