import { expect, test } from "vitest";
import { Failure, Scope, silentLogger } from "../../base/index.ts";
import { FakeClock } from "../../testing/index.ts";
import { startWriteQueue } from "./write-queue.ts";

function queueOf(write: (key: string) => Promise<void>) {
  const clock = new FakeClock();
  const scope = new Scope();
  let holds = true;
  const outcomes: string[] = [];
  const queue = startWriteQueue(
    {
      write,
      holds: () => holds,
      onOutcome: (key, failure) => outcomes.push(`${key} ${failure?.code ?? "good"}`),
      perSecond: 10,
      clock,
      random: () => 1,
      log: silentLogger,
    },
    scope,
  );
  /** Moves time on in small steps, with all that can be done at each done. */
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed <= ms; passed += 50) {
      if (passed > 0) clock.advance(50);
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { queue, pass, clock, scope, outcomes, lose: () => (holds = false) };
}

test("a key said many times before its turn is written once, and once more if said during its turn", async () => {
  const written: string[] = [];
  let end = () => {};
  const { queue, pass } = queueOf(async (key) => {
    written.push(key);
    await new Promise<void>((resolve) => (end = resolve));
  });
  for (let at = 0; at < 5; at++) queue.poke("a");
  await pass(0);
  expect(written).toEqual(["a"]);
  for (let at = 0; at < 5; at++) queue.poke("a");
  expect(queue.waiting).toBe(1);
  end();
  await pass(0);
  expect(written).toEqual(["a", "a"]);
  end();
});

test("after a burst it goes on at its pace", async () => {
  const written: string[] = [];
  const { queue, pass } = queueOf(async (key) => void written.push(key));
  for (let at = 0; at < 100; at++) queue.poke(String(at));
  await pass(0);
  expect(written).toHaveLength(50);
  await pass(2_000);
  expect(written.length).toBeGreaterThanOrEqual(68);
  expect(written.length).toBeLessThanOrEqual(72);
});

test("what fails is tried again, later and later, and others go on meanwhile", async () => {
  let fails = true;
  const tries: number[] = [];
  const { queue, clock, pass, outcomes } = queueOf(async (key) => {
    if (key !== "bad") return;
    tries.push(clock.monotonic());
    if (fails) throw new Failure("kube/forbidden", "no");
  });
  queue.poke("bad");
  queue.poke("good");
  await pass(4_000);
  expect(tries).toEqual([0, 500, 1_500, 3_500]);
  expect(outcomes).toContain("good good");
  fails = false;
  await pass(4_000);
  expect(outcomes.at(-1)).toBe("bad good");
});

test("nothing is written once the right to is lost", async () => {
  const written: string[] = [];
  const { queue, pass, lose } = queueOf(async (key) => void written.push(key));
  lose();
  queue.poke("a");
  await pass(1_000);
  expect(written).toEqual([]);
});
