import { expect, test } from "vitest";
import { FakeClock } from "../../testing/index.ts";
import { Patience } from "./patience.ts";

function waiting(movingMs: number | undefined, wholeMs = 0) {
  const clock = new FakeClock();
  const patience = new Patience(clock);
  const said: string[] = [];
  patience.forWhole(wholeMs, () => said.push("late"));
  patience.forMoving(movingMs, () => said.push("still"));
  return { clock, patience, said };
}

test("what stands still for its time is given up, once", () => {
  const { clock, said } = waiting(1000);
  clock.advance(999);
  expect(said).toEqual([]);
  clock.advance(5000);
  expect(said).toEqual(["still"]);
});

test("what moves is waited for, and its time counts from the last time that it moved", () => {
  const { clock, patience, said } = waiting(1000);
  for (let i = 0; i < 5; i++) {
    clock.advance(700);
    patience.moved();
  }
  clock.advance(999);
  expect(said).toEqual([]);
  clock.advance(1);
  expect(said).toEqual(["still"]);
});

test("the whole answer is late however much moves", () => {
  const { clock, patience, said } = waiting(undefined, 1000);
  clock.advance(600);
  patience.moved();
  clock.advance(400);
  expect(said).toEqual(["late"]);
});

test("an endless answer is not late, and one that is over is nothing any more", () => {
  const endless = waiting(undefined, 1000);
  endless.patience.endless();
  endless.clock.advance(2000);
  expect(endless.said).toEqual([]);
  const over = waiting(1000, 1000);
  over.patience.delay(500, () => over.said.push("delayed"));
  over.patience.end();
  over.clock.advance(2000);
  expect(over.said).toEqual([]);
});
