import { expect, test } from "vitest";
import { FakeClock } from "../testing/index.ts";
import { debounce } from "./debounce.ts";

function recorder() {
  const clock = new FakeClock();
  const ran: number[] = [];
  return { clock, ran, ...debounce(() => ran.push(clock.now()), { quietMs: 10, maxMs: 100, clock }) };
}

test("a burst is one run, after the quiet", () => {
  const { clock, ran, poke } = recorder();
  for (let i = 0; i < 5; i++) poke();
  clock.advance(9);
  expect(ran).toEqual([]);
  clock.advance(1);
  expect(ran).toEqual([10]);
  clock.advance(500);
  expect(ran).toEqual([10]);
});

test("a steady drip cannot put the run off past the maximum", () => {
  const { clock, ran, poke } = recorder();
  for (let i = 0; i < 25; i++) {
    poke();
    clock.advance(5);
  }
  expect(ran[0]).toBe(100);
});

test("flush runs what is pending now and nothing when there is none", () => {
  const { clock, ran, poke, flush } = recorder();
  flush();
  expect(ran).toEqual([]);
  poke();
  flush();
  clock.advance(50);
  expect(ran).toEqual([0]);
});

test("what was cancelled does not run", () => {
  const { clock, ran, poke, cancel } = recorder();
  poke();
  cancel();
  clock.advance(50);
  expect(ran).toEqual([]);
});
