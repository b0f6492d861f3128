import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeResource, formatViolation, kindNames, readResources, validateFiles } from "./index.ts";

test("an object of any shape is decoded or refused, and nothing is thrown", () => {
  const kind = fc.constantFrom(...kindNames);
  const version = fc.constantFrom("v1", "apps/v1", "networking.istio.io/v1", "discovery.k8s.io/v1");
  const part = fc.oneof(fc.anything(), fc.jsonValue());
  const key = fc.constantFrom(
    "hosts",
    "ports",
    "servers",
    "http",
    "host",
    "subsets",
    "endpoints",
    "template",
    "containers",
  );
  const object = fc.record({
    kind,
    apiVersion: version,
    metadata: fc.oneof(fc.constant({ name: "x" }), part),
    spec: fc.oneof(part, fc.dictionary(key, part)),
  });
  fc.assert(
    fc.property(object, (value) => {
      decodeResource(value, { cluster: "c" });
    }),
    { numRuns: 1000, interruptAfterTimeLimit: 5000 },
  );
});

test("a good object is frozen all the way down, with values parsed and defaults filled in", () => {
  const { resources } = readResources(
    `apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: x, namespace: shop}
spec:
  hosts: [Reviews.Default.global]
  http:
  - timeout: 1.5s
    route: [{destination: {host: a.b.global}}]
`,
    { cluster: "c1", file: "f.yaml" },
  );
  const [resource] = resources;
  if (resource?.kind !== "VirtualService") throw new Error("no VirtualService");
  expect(resource.spec.http[0]).toMatchObject({ timeout: 1500, match: [], route: [{ weight: 100 }] });
  expect(resource.spec).toMatchObject({ hosts: ["reviews.default.global"], gateways: ["mesh"], exportTo: ["*"] });
  expect(resource.origin).toEqual({
    cluster: "c1",
    kind: "VirtualService",
    namespace: "shop",
    name: "x",
    file: "f.yaml",
    line: 1,
  });
  expect(Object.isFrozen(resource.spec.http[0]!.route[0]!.destination)).toBe(true);
});

test("a warning stands beside a good object", () => {
  const { resources, violations } = readResources(
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x}\nspec: {hosts: [a.example.com]}\n",
    { cluster: "c" },
  );
  expect(resources).toHaveLength(1);
  expect(violations).toMatchObject([{ code: "ISM0425", severity: "warning" }]);
});

test("what is quoted from a file cannot begin a line of its own", () => {
  const { violations } = readResources('apiVersion: v1\nkind: "x\\n\\e[31mfake"\n', { cluster: "c" });
  expect(formatViolation(violations[0]!)).toContain("x\\n\\u001b[31mfake");
});

test("validating counts what is good, ignored and wrong, and finds one object in two files", () => {
  const a = {
    file: "a.yaml",
    text: "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: ConfigMap\napiVersion: v1\n",
  };
  const b = { file: "b.yaml", text: "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n" };
  const { violations, counts } = validateFiles([a, b]);
  expect(counts).toEqual({ files: 2, resources: 1, ignored: 1, errors: 1, warnings: 1 });
  expect(formatViolation(violations[1]!)).toBe(
    "b.yaml:1:1: metadata.name: Namespace a stands at a.yaml:1 already; remove or rename one of the two (ISM0901)",
  );
});
