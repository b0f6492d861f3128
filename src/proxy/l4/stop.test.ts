import { expect, test } from "vitest";
import { Stopper } from "./stop.ts";

test("all who listen are told once, with the reason there to read", () => {
  const stop = new Stopper();
  const told: string[] = [];
  stop.addEventListener("abort", () => told.push(`one: ${String(stop.reason)}`));
  stop.addEventListener("abort", () => told.push("two"));
  stop.abort("enough");
  stop.abort("again");
  expect(told).toEqual(["one: enough", "two"]);
  expect(stop.aborted).toBe(true);
});

test("who left is not told, even when it leaves while the others are", () => {
  const stop = new Stopper();
  const told: string[] = [];
  const second = () => told.push("second");
  stop.addEventListener("abort", () => {
    told.push("first");
    stop.removeEventListener("abort", second);
  });
  stop.addEventListener("abort", second);
  const third = () => told.push("third");
  stop.addEventListener("abort", third);
  stop.removeEventListener("abort", third);
  stop.abort();
  expect(told).toEqual(["first"]);
});

test("who comes late is not told: it finds the stop", () => {
  const stop = new Stopper();
  stop.abort();
  let told = 0;
  stop.addEventListener("abort", () => told++);
  expect([told, stop.aborted]).toEqual([0, true]);
});
