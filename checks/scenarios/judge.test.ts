import { expect, test } from "vitest";
import type { Result } from "../../src/lab/apps/caller/order.ts";
import type { Expectation } from "./format.ts";
import { type AppLine, type Evidence, judge } from "./judge.ts";

const app: AppLine = {
  cluster: "cluster2",
  namespace: "bar",
  workload: "echo-v1",
  version: "v1",
  pod: "echo-v1-a",
  method: "GET",
  path: "/a",
  headers: { "x-forwarded-client-cert": "By=spiffe://x/ns/bar/sa/echo;URI=spiffe://cluster.local/ns/foo/sa/sleep" },
  body: "",
};
const good: Result = { tookMs: 20, status: 200, headers: { a: "b" }, body: JSON.stringify(app), bytes: 10 };
const version = (name: string): Result => ({ ...good, body: JSON.stringify({ ...app, version: name }) });
const line = (flag: string | null) => ({ response_flags: flag, response_code_details: "details" });
const evidence = (change: Partial<Evidence> = {}): Evidence => ({
  results: [good],
  apps: [app],
  flags: new Map(),
  packets: new Map(),
  ...change,
});

const rows: readonly { it: string; expect: Expectation; seen?: Partial<Evidence>; says: RegExp | undefined }[] = [
  { it: "the status is right", expect: { status: [200, 201] }, says: undefined },
  { it: "the status is another", expect: { status: 503 }, says: /status must be 503; it was answered 200/ },
  { it: "a header is there that must not", expect: { headers: { A: null } }, says: /header A must be absent, is "b"/ },
  { it: "a header matches a pattern", expect: { headers: { a: "/^b$/" } }, says: undefined },
  { it: "another application answered", expect: { app: { cluster: "cluster1" } }, says: /cluster must be "cluster1"/ },
  { it: "the caller is known", expect: { caller: "spiffe://cluster.local/ns/foo/sa/sleep" }, says: undefined },
  { it: "the caller is known and must not be", expect: { caller: null }, says: /caller must be absent/ },
  { it: "the request was seen otherwise", expect: { saw: { path: "/b" } }, says: /path that was seen must be "\/b"/ },
  {
    it: "an answer came in place of an end",
    expect: { error: "reset" },
    says: /must end with reset; it was answered 200/,
  },
  {
    it: "the end was another",
    expect: { error: ["reset", "closed"] },
    seen: { results: [{ tookMs: 1, error: "refused", why: "ECONNREFUSED" }] },
    says: /must end with reset or closed; it ended with refused \(ECONNREFUSED\)/,
  },
  {
    it: "no answer came",
    expect: { status: 200 },
    seen: { results: [{ tookMs: 1, error: "timeout" }] },
    says: /must be answered/,
  },
  { it: "it took too long", expect: { took: { atMost: 10 } }, says: /took 20 ms, more than 10/ },
  { it: "it was too quick", expect: { took: { atLeast: 30 } }, says: /took 20 ms, less than 30/ },
  {
    it: "shares are as they should be",
    expect: { share: { by: "version", of: { v1: 50, v2: 50 }, tolerance: 1 } },
    seen: { results: [version("v1"), version("v2")] },
    says: undefined,
  },
  {
    it: "shares are off",
    expect: { share: { by: "version", of: { v1: 50, v2: 50 }, tolerance: 10 } },
    seen: { results: [version("v1"), version("v1"), version("v2")] },
    says: /came v1: 66.7 %, v2: 33.3 %/,
  },
  {
    it: "a version came that is not named",
    expect: { share: { by: "version", of: { v1: 66 }, tolerance: 2 } },
    seen: { results: [version("v1"), version("v1"), version("v3")] },
    says: /v3: 33.3 %/,
  },
  {
    it: "too few are different",
    expect: { distinct: { by: "version", count: 2 } },
    seen: { results: [version("v1"), version("v1")] },
    says: /2 different of version, there are v1/,
  },
  { it: "tries reached an application", expect: { reached: 0 }, says: /0 requests must reach an application, 1 did/ },
  {
    it: "a copy did not reach where it should",
    expect: { reached: { at: "cluster2/echo-v3", is: 1 } },
    says: /1 requests must reach cluster2\/echo-v3, 0 did/,
  },
  {
    it: "nothing went through the gateway",
    expect: { through: ["cluster2/istio-ingressgateway"] },
    says: /nothing went through/,
  },
  {
    it: "something went through another gateway",
    expect: { notThrough: ["cluster1/istio-egressgateway"] },
    seen: { packets: new Map([["cluster1/istio-egressgateway", 3]]) },
    says: /3 packets went through/,
  },
  { it: "there is no flag", expect: { flag: "-" }, seen: { flags: new Map([["", [line(null)]]]) }, says: undefined },
  {
    it: "one of two calls has a flag and must not",
    expect: { flag: "-" },
    seen: { flags: new Map([["", [line(null), line("UO")]]]) },
    says: /must be -, seen - ×1, UO ×1 \(details\)/,
  },
  {
    it: "one of two calls has the flag",
    expect: { flag: "UO" },
    seen: { flags: new Map([["", [line(null), line("UO")]]]) },
    says: undefined,
  },
  { it: "no line of a log tells of the call", expect: { flag: "-" }, says: /seen nothing/ },
];

for (const { it, expect: wanted, seen, says } of rows) {
  test(`where ${it}, ${says ? "it is said" : "all is well"}`, () => {
    const wrong = judge(wanted, evidence(seen)).join("\n");
    if (says) expect(wrong).toMatch(says);
    else expect(wrong).toBe("");
  });
}
