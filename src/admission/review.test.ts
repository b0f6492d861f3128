import { describe, expect, test } from "vitest";
import { readReview, writeReview } from "./review.ts";

const good = {
  apiVersion: "admission.k8s.io/v1",
  kind: "AdmissionReview",
  request: { uid: "u", operation: "CREATE", kind: { group: "", version: "v1", kind: "Pod" }, object: {} },
};

test("what is asked is read, and what is absent is empty", () => {
  expect(readReview(JSON.stringify(good))).toMatchObject({
    outcome: "good",
    request: { uid: "u", namespace: "", name: "", subResource: "", oldObject: undefined },
  });
});

describe("what asks nothing", () => {
  const { request } = good;
  for (const body of [
    "",
    "{",
    "null",
    "[]",
    "1",
    "{}",
    JSON.stringify({ ...good, apiVersion: "admission.k8s.io/v2" }),
    JSON.stringify({ ...good, kind: "Pod" }),
    JSON.stringify({ ...good, request: null }),
    JSON.stringify({ ...good, request: [] }),
    JSON.stringify({ ...good, request: { ...request, uid: 1 } }),
    JSON.stringify({ ...good, request: { ...request, operation: "PATCH" } }),
    JSON.stringify({ ...good, request: { ...request, kind: "Pod" } }),
    JSON.stringify({ ...good, request: { ...request, kind: { kind: 1 } } }),
    "[".repeat(100_000),
  ])
    test(body.slice(0, 60) || "an empty body", () => {
      const reading = readReview(body);
      expect(reading.outcome).toBe("wrong");
      if (reading.outcome === "wrong") expect(reading.problem.length).toBeLessThan(400);
    });
});

test("warnings fit what an API server passes on, one line each", () => {
  const warnings = ["a\nb", "x".repeat(1000), ...Array.from({ length: 100 }, () => "y".repeat(250))];
  const written = JSON.parse(writeReview({ apiVersion: "admission.k8s.io/v1", uid: "u" }, { allowed: true, warnings }));
  const said = written.response.warnings as string[];
  expect(said[0]).toBe("a b");
  expect(said[1]).toHaveLength(250);
  expect(said.join("").length).toBeLessThanOrEqual(4000);
  expect(said.length).toBeGreaterThan(10);
});
