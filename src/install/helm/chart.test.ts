import { describe, expect, test } from "vitest";
import { plainObjects } from "../../resources/index.ts";
import { overlay } from "../settings/field.ts";
import { helmChart } from "./chart.ts";
import { byName, installed, namespace, version } from "./testdata/installed.ts";
import { valueAt } from "./values.ts";

const chart = helmChart(version);
const defaults = plainObjects(chart.find(({ path }) => path === "values.yaml")!.text)[0]!;

/** The few words of templates that the chart uses, as Helm reads them. */
function evaluate(text: string, values: unknown): string {
  const lookUp = (expression: string): unknown =>
    expression === ".Release.Namespace" ? namespace : valueAt(values, expression.replace(/^\.Values\./, "").split("."));
  const read = (word: string): unknown => (word.startsWith('"') ? JSON.parse(word) : lookUp(word));
  const holds = (condition: string): boolean => {
    const [, inner] = /^not \((.*)\)$/.exec(condition) ?? [];
    if (inner !== undefined) return !holds(inner);
    const [first = "", ...rest] = condition.split(" ");
    if (first === "and") return rest.every((one) => Boolean(lookUp(one)));
    if (first === "eq") return read(rest[0]!) === read(rest[1]!);
    if (first === "contains") return String(read(rest[1]!)).includes(String(read(rest[0]!)));
    return rest.length === 0 && Boolean(lookUp(first));
  };
  // Whether each condition around a line holds; what a line of a condition trims is the end of the line before it.
  const around: boolean[] = [];
  const lines = text.split("\n").filter((line) => {
    const [, condition, other] = /^\{\{- (?:if (.*)|(else)|end) \}\}$/.exec(line) ?? [];
    if (condition !== undefined) around.push(holds(condition));
    else if (other !== undefined) around.push(!around.pop()!);
    else if (line === "{{- end }}") around.pop();
    else return around.every(Boolean);
    return false;
  });
  return lines.join("\n").replace(/\{\{ (\S+)(?: \| (quote|toJson))? \}\}/g, (_, expression: string, how?: string) => {
    const value = lookUp(expression);
    return how === undefined ? String(value) : JSON.stringify(value);
  });
}

function templated(values: unknown): Readonly<Record<string, unknown>> {
  const files = chart.filter(({ path }) => path.startsWith("crds/") || /^templates\/.*\.yaml$/.test(path));
  return byName(
    files.flatMap(({ path, text }) => plainObjects(path.startsWith("crds/") ? text : evaluate(text, values))),
  );
}

describe("the chart", () => {
  test("makes the objects that installing applies", () => {
    expect(templated({ ...defaults, cluster: "c1" })).toEqual(installed());
  });

  test("its values do what the settings of the same names do", () => {
    const values = overlay(
      { ...defaults, cluster: "c1" },
      {
        controlPlane: { replicas: 3 },
        gateways: { egress: { enabled: false }, ingress: { type: "NodePort", annotations: { a: "b" } } },
        trustDomain: "example.com",
      },
    );
    expect(templated(values)).toEqual(
      installed(
        "controlPlane.replicas=3",
        "gateways.egress.enabled=false",
        "gateways.ingress.type=NodePort",
        "gateways.ingress.annotations.a=b",
        "trustDomain=example.com",
      ),
    );
  });

  const choices = [
    { it: "Envoy as the data plane", sets: { dataPlane: "envoy" } },
    { it: "an image by its tag", sets: { image: "images.example.com/mesh:1" } },
    { it: "an image with an Envoy in it", sets: { image: "images.example.com/mesh:1", dataPlane: "envoy" } },
    { it: "an image by its digest", sets: { image: "images.example.com/mesh@sha256:0a", dataPlane: "envoy" } },
    { it: "a revision beside the default one", sets: { revision: "canary" } },
    { it: "all of it at once", sets: { revision: "canary", image: "mesh@sha256:0a", dataPlane: "envoy" } },
  ];
  for (const { it, sets } of choices) {
    test(`makes the objects that installing applies with ${it}`, () => {
      const told = Object.entries(sets).map(([path, value]) => `${path}=${value}`);
      expect(templated({ ...defaults, cluster: "c1", ...sets })).toEqual(installed(...told));
    });
  }

  test("a revision beside the default one brings nothing that is the mesh's once", () => {
    const kinds = Object.keys(templated({ ...defaults, cluster: "c1", revision: "canary" }));
    expect(kinds.filter((name) => !name.startsWith("CustomResourceDefinition") && !name.includes("canary"))).toEqual(
      [],
    );
  });

  test("leaves no mark behind", () => {
    for (const { path, text } of chart) expect(text, path).not.toMatch(/zz(text|yaml)\d/i);
  });

  test("takes no value that it does not read", () => {
    const schema = JSON.parse(chart.find(({ path }) => path === "values.schema.json")!.text);
    expect(schema).toMatchObject({
      additionalProperties: false,
      properties: {
        cluster: { type: "string" },
        revision: { pattern: expect.stringContaining("a-z") },
        dataPlane: { type: "string", enum: ["embedded", "envoy"] },
        image: { type: "string" },
        controlPlane: {
          properties: { replicas: { type: "integer", minimum: 1 }, resources: { additionalProperties: false } },
        },
        gateways: { properties: { egress: { properties: { enabled: { type: "boolean" } } } } },
      },
    });
    expect(schema.properties).not.toHaveProperty("profile");
    expect(schema.properties.gateways.properties.ingress.properties.annotations).toEqual({ type: "object" });
  });
});
