import { describe, expect, test } from "vitest";
import { egressWish, readResources } from "./index.ts";

const key = "networking.isthmus.dev/egress-gateway";

describe("the egress-gateway annotation", () => {
  test.each([
    ["true", { by: "own" }],
    ["false", { by: "none" }],
    [" true ", { by: "own" }],
    ["gate", { by: "named", name: "gate", namespace: undefined }],
    ["gate.team-a", { by: "named", name: "gate", namespace: "team-a" }],
    ["gate.team-a.svc.cluster.local", { by: "named", name: "gate", namespace: "team-a" }],
    ["", undefined],
    ["Gate", undefined],
    ["gate.team-a.example.com", undefined],
    ["gate.", undefined],
    ["a b", undefined],
  ])("%j means %j", (text, wish) => {
    expect(egressWish({ [key]: text })).toEqual(wish);
  });

  test("is not there unless it is an own key", () => {
    expect(egressWish({})).toBeUndefined();
  });

  const entry = (value: string, spec: string) =>
    `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x, annotations: {${key}: "${value}"}}\nspec: {ports: [{name: http, number: 80, protocol: http}], ${spec}}`;
  const remote = "hosts: [a.b.global], location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 172.18.0.2}]";
  const outside = "hosts: [example.com], location: MESH_EXTERNAL, resolution: DNS";

  test.each([
    ["on an entry of another cluster", entry("true", remote), undefined],
    ["false on an entry of the outside", entry("false", outside), undefined],
    ["on an entry of the outside", entry("true", outside), ["ISM0431", 'not "location: MESH_INTERNAL"']],
    [
      "on an entry whose callers choose",
      entry("gate", "hosts: [a.b.global], location: MESH_INTERNAL, resolution: NONE"),
      ["ISM0431", "resolution NONE"],
    ],
    [
      "on an entry of the cluster's own names",
      entry("true", remote.replace("a.b.global", "a.b.global, a.b.svc.cluster.local")),
      ["ISM0431", '"a.b.svc.cluster.local" is no .global host'],
    ],
    ["that means nothing", entry("yes please", remote), ["ISM0430", 'got "yes please"']],
    [
      "that means nothing, on a Namespace",
      `apiVersion: v1\nkind: Namespace\nmetadata: {name: x, annotations: {${key}: "-"}}`,
      ["ISM0430", '"true", "false", or the <name>'],
    ],
  ])("%s", (_, text, wanted) => {
    const { resources, violations } = readResources(text, { cluster: "c" });
    if (wanted === undefined) {
      expect(violations).toEqual([]);
      return;
    }
    expect(resources).toEqual([]);
    expect(violations).toHaveLength(1);
    expect(violations[0]).toMatchObject({
      code: wanted[0],
      severity: "error",
      message: expect.stringContaining(wanted[1]!),
    });
    expect(violations[0]!.path).toContain("metadata.annotations");
  });
});
