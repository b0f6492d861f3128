import { expect, test } from "vitest";
import { FakeClock } from "../../testing/index.ts";
import { SteadyWriter } from "./steady-writer.ts";

function scene() {
  const clock = new FakeClock();
  const writer = new SteadyWriter(clock);
  const writes: { readonly what: string; readonly at: number }[] = [];
  const disk = { takesMs: 0, good: true };
  const write = (what: string) => async () => {
    writes.push({ what, at: clock.monotonic() });
    const { takesMs, good } = disk;
    if (takesMs > 0) await new Promise<void>((resolve) => clock.after(takesMs, resolve));
    return good;
  };
  return { clock, writer, writes, disk, write };
}

test("many changes are one write, of the newest", async () => {
  const { clock, writer, writes, write } = scene();
  for (const what of ["a", "b", "c"]) writer.want(write(what));
  await clock.advanceAsync(199);
  expect(writes).toEqual([]);
  await clock.advanceAsync(60_000);
  expect(writes).toEqual([{ what: "c", at: 200 }]);
});

test("changes without end are written once a second", async () => {
  const { clock, writer, writes, write } = scene();
  for (let i = 0; i < 600; i++) {
    writer.want(write(String(i)));
    await clock.advanceAsync(100);
  }
  expect(writes.length).toBeGreaterThanOrEqual(55);
  expect(writes.length).toBeLessThanOrEqual(61);
});

test("a slow disk is given rest, up to ten seconds", async () => {
  const { clock, writer, writes, disk, write } = scene();
  disk.takesMs = 300;
  for (let i = 0; i < 600; i++) {
    writer.want(write(String(i)));
    await clock.advanceAsync(100);
  }
  expect(writes.length).toBeGreaterThanOrEqual(19);
  expect(writes.length).toBeLessThanOrEqual(21);
  disk.takesMs = 5_000;
  writes.length = 0;
  for (let i = 0; i < 1_000; i++) {
    writer.want(write(String(i)));
    await clock.advanceAsync(100);
  }
  expect(writes.length).toBeGreaterThanOrEqual(9);
  expect(writes.length).toBeLessThanOrEqual(12);
});

test("a write that failed is tried again after a while, and gives way to a newer one", async () => {
  const { clock, writer, writes, disk, write } = scene();
  disk.good = false;
  writer.want(write("a"));
  await clock.advanceAsync(29_000);
  expect(writes.map(({ what }) => what)).toEqual(["a"]);
  await clock.advanceAsync(2_000);
  expect(writes.map(({ what }) => what)).toEqual(["a", "a"]);
  disk.good = true;
  writer.want(write("b"));
  await clock.advanceAsync(120_000);
  expect(writes.map(({ what }) => what)).toEqual(["a", "a", "b"]);
});

test("closing waits for the write that runs, writes what waits, and nothing after that", async () => {
  const { clock, writer, writes, disk, write } = scene();
  disk.takesMs = 100;
  writer.want(write("a"));
  await clock.advanceAsync(250);
  writer.want(write("b"));
  let closed = false;
  const closing = writer.close().then(() => {
    closed = true;
  });
  await clock.advanceAsync(20);
  expect(closed).toBe(false);
  await clock.advanceAsync(500);
  await closing;
  expect(writes.map(({ what }) => what)).toEqual(["a", "b"]);
  writer.want(write("c"));
  await clock.advanceAsync(60_000);
  expect(writes).toHaveLength(2);
  expect(clock.pending).toBe(0);
});
