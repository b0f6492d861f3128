import { describe, expect, test } from "vitest";
import { formatViolation, validateFiles } from "../resources/index.ts";
import { answerValidate } from "./answer-validate.ts";
import type { AdmissionRequest } from "./review.ts";

const entry = (spec: object, metadata: object = {}) => ({
  apiVersion: "networking.istio.io/v1",
  kind: "ServiceEntry",
  metadata: { name: "httpbin", namespace: "foo", ...metadata },
  spec,
});
const goodSpec = {
  hosts: ["httpbin.bar.global"],
  location: "MESH_INTERNAL",
  ports: [{ number: 8000, name: "http1", protocol: "HTTP" }],
  resolution: "DNS",
  addresses: ["240.0.0.2"],
  endpoints: [{ address: "192.0.2.1", ports: { http1: 15443 } }],
};
const badSpec = { ...goodSpec, addresses: ["224.0.0.1"], ports: [{ number: 70000, name: "http1", protocol: "HTTP" }] };

function request(object: unknown, more: Partial<AdmissionRequest> = {}): AdmissionRequest {
  return {
    apiVersion: "admission.k8s.io/v1",
    uid: "u",
    operation: "CREATE",
    kind: { group: "networking.istio.io", version: "v1", kind: "ServiceEntry" },
    namespace: "foo",
    name: "httpbin",
    subResource: "",
    object,
    oldObject: undefined,
    ...more,
  };
}
const answer = (object: unknown, more: Partial<AdmissionRequest> = {}) =>
  answerValidate(request(object, more), { cluster: "c" });

test("what is wrong is said as isthmus validate says it, all of it", () => {
  const { answer: given, outcome } = answer(entry(badSpec));
  expect(outcome).toBe("denied");
  if (given.allowed) throw new Error("it is let in");
  const { violations } = validateFiles([{ file: "f", text: JSON.stringify(entry(badSpec)) }]);
  const errors = violations.filter(({ severity }) => severity === "error");
  expect(errors.length).toBeGreaterThan(1);
  for (const violation of errors)
    expect(given.message).toContain(formatViolation(violation).replace(/^f:\d+:\d+: /, ""));
});

describe("let in", () => {
  const cases: readonly (readonly [string, ReturnType<typeof answer>, string])[] = [
    ["what is good", answer(entry(goodSpec)), "good"],
    ["what is good and has a status", answer({ ...entry(goodSpec), status: { conditions: [] } }), "good"],
    ["a name that is still to be made", answer(entry(goodSpec, { name: undefined, generateName: "httpbin-" })), "good"],
    ["what is deleted", answer(undefined, { operation: "DELETE", oldObject: entry(badSpec) }), "good"],
    ["what is being deleted", answer(entry(badSpec, { deletionTimestamp: "2026-01-01T00:00:00Z" })), "good"],
    ["a status", answer(entry(badSpec), { subResource: "status" }), "good"],
    [
      "a kind that is not read",
      answer(
        { apiVersion: "example.org/v1", kind: "Thing", metadata: {} },
        { kind: { group: "example.org", version: "v1", kind: "Thing" } },
      ),
      "unread",
    ],
    [
      "what was wrong before and does not change its meaning, with a warning",
      answer(entry(badSpec, { finalizers: [] }), {
        operation: "UPDATE",
        oldObject: entry(badSpec, { finalizers: ["a/b"] }),
      }),
      "warned",
    ],
    [
      "Kubernetes' own kinds, with a warning",
      answer(
        { apiVersion: "v1", kind: "Service", metadata: { name: "a" }, spec: { ports: [{ port: 0 }] } },
        { kind: { group: "", version: "v1", kind: "Service" } },
      ),
      "warned",
    ],
  ];
  for (const [it, { answer: given, outcome }, expected] of cases)
    test(it, () => {
      expect(given.allowed).toBe(true);
      expect(outcome).toBe(expected);
      if (expected === "warned") expect(given.warnings?.length).toBeGreaterThan(0);
    });
});

test("what was wrong before and is changed to what is wrong too is not let in", () => {
  const changed = entry({ ...badSpec, hosts: ["other.bar.global"] });
  expect(answer(changed, { operation: "UPDATE", oldObject: entry(badSpec) }).outcome).toBe("denied");
});

describe("nonsense is refused in words", () => {
  for (const object of [
    undefined,
    null,
    1,
    "text",
    [],
    {},
    { metadata: null },
    entry(null as never),
    entry([] as never),
  ])
    test(JSON.stringify(object) ?? "undefined", () => {
      const { answer: given, why } = answer(object);
      expect(given.allowed).toBe(false);
      expect(why.length).toBeGreaterThan(10);
    });
});
