import { expect, test } from "vitest";
import { type Complaint, nextConditions, verdictsOf } from "./conditions.ts";

const complaint = (over: Partial<Complaint>): Complaint => ({
  by: "mesh",
  severity: "error",
  code: "mesh/address-conflict",
  message: "no",
  ...over,
});

const rows: ReadonlyArray<{ it: string; complaints: readonly Complaint[]; accepted: string; programmed: string }> = [
  { it: "nothing", complaints: [], accepted: "True Accepted", programmed: "True Programmed" },
  {
    it: "something unreadable",
    complaints: [complaint({ by: "read", code: "ISM0405" })],
    accepted: "False Invalid",
    programmed: "False Invalid",
  },
  {
    it: "something that does not fit",
    complaints: [complaint({})],
    accepted: "False AddressConflict",
    programmed: "True Programmed",
  },
  {
    it: "a warning",
    complaints: [complaint({ severity: "warning" })],
    accepted: "True AcceptedWithWarnings",
    programmed: "True Programmed",
  },
  {
    it: "a proxy's refusal",
    complaints: [complaint({ by: "proxy", code: "xds/refused" })],
    accepted: "True Accepted",
    programmed: "False RefusedByProxy",
  },
];
for (const { it, complaints, accepted, programmed } of rows) {
  test(`${it} to complain of makes Accepted ${accepted}, Programmed ${programmed}`, () => {
    expect(verdictsOf(complaints).map(({ type, status, reason }) => `${type} ${status} ${reason}`)).toEqual([
      `Accepted ${accepted}`,
      `Programmed ${programmed}`,
    ]);
  });
}

test("a message names the first few complaints with their codes, and counts the others", () => {
  const many = Array.from({ length: 8 }, (_, at) => complaint({ message: `m${at}` }));
  expect(verdictsOf(many)[0]?.message).toBe(
    `${[0, 1, 2, 3, 4].map((at) => `m${at} (mesh/address-conflict)`).join("; ")}; and 3 more`,
  );
  expect(verdictsOf([complaint({ message: "x".repeat(9_000) })])[0]?.message).toHaveLength(2_000);
});

const good = verdictsOf([]);
const at = (iso: string) => Date.parse(iso);

test("conditions that say what they should are not written again, whatever the time", () => {
  const first = nextConditions([], { verdicts: good, generation: 1, wallMs: at("2026-01-01T00:00:00.123Z") });
  expect(first?.map(({ lastTransitionTime }) => lastTransitionTime)).toEqual([
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00Z",
  ]);
  expect(nextConditions(first!, { verdicts: good, generation: 1, wallMs: at("2026-02-01T00:00:00Z") })).toBeUndefined();
});

test("an object without a generation is not written again for ever", () => {
  const first = nextConditions([], { verdicts: good, generation: undefined, wallMs: 0 });
  expect(nextConditions(first!, { verdicts: good, generation: undefined, wallMs: 0 })).toBeUndefined();
});

test("a new generation is observed, and only a changed status has a new time", () => {
  const first = nextConditions([], { verdicts: good, generation: 1, wallMs: at("2026-01-01T00:00:00Z") })!;
  const bad = verdictsOf([complaint({})]);
  const next = nextConditions(first, { verdicts: bad, generation: 2, wallMs: at("2026-01-02T00:00:00Z") })!;
  expect(
    next.map(({ type, observedGeneration, lastTransitionTime }) => [type, observedGeneration, lastTransitionTime]),
  ).toEqual([
    ["Accepted", 2, "2026-01-02T00:00:00Z"],
    ["Programmed", 2, "2026-01-01T00:00:00Z"],
  ]);
});

test("conditions of others stay", () => {
  const others = [{ type: "Reconciled", status: "True" }];
  const first = nextConditions(others, { verdicts: good, generation: 1, wallMs: 0 })!;
  expect(first.map(({ type }) => type)).toEqual(["Reconciled", "Accepted", "Programmed"]);
});
