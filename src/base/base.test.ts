import { describe, expect, test } from "vitest";
import { FakeClock } from "../testing/index.ts";
import { backoffMs, Cell, explain, Failure, Scope, sleep, until, within } from "./index.ts";

describe("Cell", () => {
  test("watchers hear of a new value and not of the same one", () => {
    const cell = new Cell(1);
    const heard: number[] = [];
    const stop = cell.subscribe((value) => heard.push(value));
    cell.set(1);
    cell.set(2);
    stop();
    cell.set(3);
    expect(heard).toEqual([2]);
  });

  test("a watcher that was stopped by an earlier watcher is not called", () => {
    const cell = new Cell(1);
    const heard: string[] = [];
    cell.subscribe(() => stopSecond());
    const stopSecond = cell.subscribe(() => heard.push("second"));
    cell.set(2);
    expect(heard).toEqual([]);
  });

  test("until resolves with the present value or a later one, and gives up with the signal", async () => {
    const cell = new Cell(1);
    await expect(until(cell, (value) => value === 1)).resolves.toBe(1);
    const later = until(cell, (value) => value > 5);
    cell.set(6);
    await expect(later).resolves.toBe(6);
    const controller = new AbortController();
    const never = until(cell, (value) => value > 9, controller.signal);
    controller.abort(new Error("enough"));
    await expect(never).rejects.toThrow("enough");
  });
});

describe("Scope", () => {
  test("what was started last is stopped first, and a child with its parent", async () => {
    const scope = new Scope();
    const stopped: string[] = [];
    scope.defer(() => void stopped.push("first"));
    const child = scope.child();
    child.defer(() => void stopped.push("child"));
    scope.defer(() => void stopped.push("last"));
    await scope.close();
    expect(stopped).toEqual(["last", "child", "first"]);
    expect(child.closed).toBe(true);
  });

  test("one part that fails to stop does not keep the others running", async () => {
    const scope = new Scope();
    const stopped: string[] = [];
    scope.defer(() => void stopped.push("first"));
    scope.defer(() => {
      throw new Error("stuck");
    });
    await expect(scope.close()).rejects.toThrow("stuck");
    expect(stopped).toEqual(["first"]);
  });

  test("draining ends at its deadline", async () => {
    const clock = new FakeClock();
    const scope = new Scope();
    let cutOff = false;
    scope.defer(
      (deadline) =>
        new Promise<void>((resolve) =>
          deadline.addEventListener("abort", () => {
            cutOff = true;
            resolve();
          }),
        ),
    );
    const closed = scope.close({ drainMs: 1000, clock });
    await clock.advanceAsync(999);
    expect(cutOff).toBe(false);
    await clock.advanceAsync(1);
    await closed;
    expect(cutOff).toBe(true);
  });

  test("what is deferred to a closed scope stops at once", async () => {
    const scope = new Scope();
    await scope.close();
    const stopped: string[] = [];
    scope.defer(() => void stopped.push("late"));
    expect(stopped).toEqual(["late"]);
  });
});

describe("Failure", () => {
  test("layers add their names and keep code and hint", () => {
    const inner = new Failure("upstream/refused", "connection refused", { hint: "is it running?" });
    const outer = within('cluster "c"', within('endpoint "e"', inner));
    expect(explain(outer)).toBe('cluster "c": endpoint "e": connection refused [is it running?] (upstream/refused)');
  });

  test("a system error keeps its code", () => {
    expect(Failure.from(Object.assign(new Error("listen"), { code: "EADDRINUSE" })).code).toBe("system/EADDRINUSE");
  });
});

test("sleep wakes at its time, or at once when the signal aborts", async () => {
  const clock = new FakeClock();
  const slept = sleep(clock, 10);
  await clock.advanceAsync(10);
  await slept;
  const controller = new AbortController();
  const cut = sleep(clock, 10, controller.signal);
  controller.abort(new Error("stop"));
  await expect(cut).rejects.toThrow("stop");
  expect(clock.pending).toBe(0);
});

test("waits grow to the maximum, within half and the whole", () => {
  const options = { firstMs: 100, maxMs: 1000 };
  expect([1, 2, 3, 9].map((attempt) => backoffMs(attempt, options, () => 0))).toEqual([50, 100, 200, 500]);
  expect([1, 2, 3, 9].map((attempt) => backoffMs(attempt, options, () => 1))).toEqual([100, 200, 400, 1000]);
});
