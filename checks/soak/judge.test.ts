import { expect, test } from "vitest";
import { Judge, type Result } from "./judge.ts";

const caller = "spiffe://cluster.local/ns/foo/sa/sleep";
const xfcc = `By=spiffe://cluster.local/ns/bar/sa/echo;Hash=00;Subject="";URI=${caller}`;
const answer = { cluster: "cluster2", version: "v1", pod: "a", path: "/1", xfcc };

function result(more: Partial<Result>): Result {
  const common = { caller, cluster: "cluster1", kind: "http", host: "echo", path: "/1", marked: false } as const;
  return { ...common, start: 100, end: 110, status: 200, answer, ...more };
}
function failure(more: Partial<Result> = {}): Result {
  const { answer: _, ...rest } = result({ status: 503, ...more });
  return rest;
}
function judge(): Judge {
  const made = new Judge();
  made.change("echo", { plain: ["cluster2 v1"], marked: ["cluster2 v2"] }, 0)(0);
  return made;
}

const rows = [
  { it: "an answer from who was to answer", given: result({}), is: "right" },
  { it: "another version's answer", given: result({ answer: { ...answer, version: "v2" } }), is: "wrong" },
  { it: "another cluster's answer", given: result({ answer: { ...answer, cluster: "cluster1" } }), is: "wrong" },
  { it: "an answer to another question", given: result({ answer: { ...answer, path: "/2" } }), is: "wrong" },
  {
    it: "an answer to who was taken for another",
    given: result({ answer: { ...answer, xfcc: xfcc.replace("sleep", "other") } }),
    is: "wrong",
  },
  {
    it: "an answer to nobody that is known",
    given: result({ answer: { cluster: "cluster2", version: "v1", pod: "a", path: "/1" } }),
    is: "wrong",
  },
  { it: "a marked request at who answers the others", given: result({ marked: true }), is: "wrong" },
  { it: "no answer at all", given: failure({ status: 0, error: "ECONNRESET" }), is: "failed" },
  { it: "an error", given: failure(), is: "failed" },
  { it: "a host of which nothing is known", given: result({ host: "other" }), is: "wrong" },
] as const;
for (const { it, given, is } of rows) test(`${it} is ${is}`, () => expect(judge().verdictOn(given).kind).toBe(is));

test("while a change is on its way both are right, and when it holds only the new one is", () => {
  const judging = judge();
  const arrived = judging.change("echo", { plain: ["cluster2 v2"], marked: [] }, 105);
  const second = { ...answer, version: "v2" };
  expect(judging.verdictOn(result({})).kind).toBe("right");
  expect(judging.verdictOn(result({ answer: second })).kind).toBe("right");
  expect(judging.settled("echo")).toBe(false);
  arrived(200);
  expect(judging.settled("echo")).toBe(true);
  // Begun before the change held, ended after.
  expect(judging.verdictOn(result({ start: 190, end: 300 })).kind).toBe("right");
  expect(judging.verdictOn(result({ start: 201, end: 300 })).kind).toBe("wrong");
  expect(judging.verdictOn(result({ start: 201, end: 300, answer: second })).kind).toBe("right");
  expect(judging.verdictOn(result({ start: 90, end: 95, answer: second })).kind).toBe("wrong");
});

test("two changes at once: what the first allowed is over when the first after it holds", () => {
  const judging = judge();
  const first = judging.change("echo", { plain: ["cluster2 v2"], marked: [] }, 105);
  const second = judging.change("echo", { plain: ["cluster2 v3"], marked: [] }, 120);
  second(200);
  first(300);
  expect(judging.settled("echo")).toBe(true);
  expect(judging.verdictOn(result({ start: 201, end: 202 })).kind).toBe("wrong");
  expect(judging.verdictOn(result({ start: 201, end: 202, answer: { ...answer, version: "v3" } })).kind).toBe("right");
});

test("a host that was taken away may be answered by nobody, and need not be", () => {
  const judging = judge();
  judging.change("echo", { plain: [], marked: [] }, 50)(60);
  expect(judging.verdictOn(failure()).kind).toBe("rightly-none");
  expect(judging.verdictOn(result({})).kind).toBe("wrong");
});

test("a failure counts as none only while an outage lasts that leaves it no way", () => {
  const judging = judge();
  const over = judging.outage({ why: "gateway away", from: 105, hits: (_, among) => among.includes("cluster2 v1") });
  expect(judging.verdictOn(failure())).toEqual({ kind: "exempt", why: "gateway away" });
  expect(judging.verdictOn(failure({ marked: true })).kind).toBe("failed");
  expect(judging.verdictOn(failure({ start: 90, end: 95 })).kind).toBe("failed");
  over(150);
  expect(judging.verdictOn(failure({ start: 151, end: 160 })).kind).toBe("failed");
  // An outage excuses no wrong answer.
  expect(judging.verdictOn(result({ answer: { ...answer, version: "v2" } })).kind).toBe("wrong");
});
