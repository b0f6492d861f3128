import { expect, test } from "vitest";
import {
  heldLease,
  type LeaseState,
  leaseStep,
  leaseTimes,
  mayLead,
  readLease,
  seenLease,
  unknownLease,
} from "./lease.ts";

const times = leaseTimes;

/** What a contender does at each moment, given what it reads. */
function contender(me: string) {
  let state: LeaseState = unknownLease;
  return {
    reads(nowMs: number, found: { version: string; holder: string; durationMs?: number } | undefined) {
      const record = found && {
        holder: found.holder,
        durationMs: found.durationMs ?? 15_000,
        transitions: 3,
        acquired: undefined,
      };
      state = seenLease(state, found && { version: found.version, record: record! }, { me, nowMs });
      return leaseStep(state, { me, nowMs, times, wallMs: 0 }).kind;
    },
    wrote(sentMs: number, version: string) {
      const record = { holder: me, durationMs: 15_000, transitions: 3, acquired: undefined };
      state = heldLease({ version, record }, { sentMs, nowMs: sentMs + 50, times });
    },
    leads: (nowMs: number) => mayLead(state, nowMs),
  };
}

test("a lease that nobody made is made", () => {
  expect(contender("a").reads(0, undefined)).toBe("create");
});

test("another's lease is taken when its version has stood still for as long as it lasts, by one's own time", () => {
  const a = contender("a");
  expect(a.reads(1_000, { version: "7", holder: "b" })).toBe("wait");
  expect(a.reads(15_999, { version: "7", holder: "b" })).toBe("wait");
  expect(a.reads(16_000, { version: "7", holder: "b" })).toBe("update");
  expect(a.reads(16_000, { version: "8", holder: "b" })).toBe("wait");
  expect(a.reads(30_999, { version: "8", holder: "b" })).toBe("wait");
});

test("a lease that was given up is taken at once, and one's own is renewed", () => {
  const a = contender("a");
  expect(a.reads(0, { version: "7", holder: "" })).toBe("update");
  expect(a.reads(0, { version: "8", holder: "a" })).toBe("update");
});

test("who holds it leads from when it asked, not from when it was answered, and stops before others begin", () => {
  const a = contender("a");
  expect(a.leads(0)).toBe(false);
  a.wrote(1_000, "8");
  expect(a.leads(10_999)).toBe(true);
  expect(a.leads(11_000)).toBe(false);
  expect(times.giveUpMs).toBeLessThan(times.durationMs);
});

test("who is named by a lease that it did not write itself does not lead before it has renewed it", () => {
  const a = contender("a");
  a.reads(0, { version: "8", holder: "a" });
  expect(a.leads(0)).toBe(false);
});

test("who finds another in its lease leads no more", () => {
  const a = contender("a");
  a.wrote(0, "8");
  a.reads(2_000, { version: "9", holder: "b" });
  expect(a.leads(2_000)).toBe(false);
});

test("a lease with nothing in it counts as free", () => {
  const read = readLease({ metadata: { name: "l", resourceVersion: "3" } }, times);
  expect(read).toEqual({
    version: "3",
    record: { holder: "", durationMs: 15_000, transitions: 0, acquired: undefined },
  });
});
