import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { plainObjects } from "../../resources/index.ts";
import { renderAll } from "../render/manifest.ts";
import { filled, type Manifest, nameOf } from "../render/object.ts";
import { overlay } from "../settings/field.ts";
import { readSettings } from "../settings/read.ts";
import { helmChart } from "./chart.ts";
import { chartProfile, valueAt } from "./values.ts";
import { writeChart } from "./write.ts";

const version = "0.0.0-test";
const namespace = "isthmus-system";
const chart = helmChart(version);
const defaults = plainObjects(chart.find(({ path }) => path === "values.yaml")!.text)[0]!;

/** What installing applies, without what a chart leaves to Helm. */
function installed(...sets: readonly string[]): Readonly<Record<string, unknown>> {
  const settings = readSettings({ files: [], sets: ["cluster=c1", `profile=${chartProfile}`, ...sets], version });
  const all = renderAll(settings, { isDefault: settings.revision === "default", trusted: false });
  return byName(
    all.filter(({ kind, metadata }) => kind !== "Namespace" && !metadata.name.startsWith("isthmus-installation")),
  );
}

function byName(all: readonly object[]): Readonly<Record<string, unknown>> {
  return Object.fromEntries(all.map((object) => [nameOf(object as Manifest), settled(object as Manifest)]));
}

/** The injector's settings as a value: their text may be written in more ways than one; so may having no annotations. */
function settled({ metadata, ...object }: Manifest): unknown {
  const json = (object["data"] as Readonly<Record<string, string>> | undefined)?.["injection.json"];
  return { ...object, metadata: filled(metadata), ...(json === undefined ? {} : { data: JSON.parse(json) }) };
}

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

// Helm is a Go program: go install helm.sh/helm/v3/cmd/helm@v3.18.6, or any other; HELM names it where it is not on PATH.
const helm = process.env["HELM"] ?? "helm";
const there = runs(helm, ["version", "--short"]);
if (!there)
  process.stderr.write(`SKIPPED: there is no Helm ("${helm}") to hold the chart against; set HELM to its path\n`);
describe.skipIf(!there)("the chart in Helm's own eyes", () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "isthmus-chart-"));
    writeChart(dir, version);
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  const run = (...args: readonly string[]) =>
    execFileSync(helm, [...args], { encoding: "utf8", stdio: "pipe", maxBuffer: 64 * 1024 * 1024 });
  const template = (...sets: readonly string[]) =>
    run(
      ...["template", "isthmus", dir, "--namespace", namespace, "--include-crds"],
      // A Helm that was built by go install takes itself for one of Kubernetes 1.20.
      ...["--kube-version", "1.33.0"],
      ...sets.flatMap((set) => ["--set", set]),
    );

  const sets: readonly (readonly string[])[] = [
    [],
    ["controlPlane.replicas=3", "gateways.ingress.replicas=2"],
    ["hub=images.example.com/mesh", "tag=1.10", "imagePullPolicy=Always"],
    ["gateways.egress.enabled=false", "gateways.ingress.annotations.a=b", "controlPlane.resources.requests.cpu=500m"],
    ["dataPlane=envoy", "clusterDomain=example.internal"],
    ["image=images.example.com/mesh:1", "dataPlane=envoy"],
    ["image=images.example.com/mesh@sha256:0a", "dataPlane=envoy"],
    ["revision=canary", "image=images.example.com/mesh:1"],
    ["multicluster.enabled=false", "dns.enabled=false", "trustDomain=example.com", "validation.enabled=false"],
  ];
  test.each(sets.map((set) => [set.join(" ") || "nothing set", set] as const))("is what is installed: %s", (_, set) => {
    expect(byName(plainObjects(template("cluster=c1", ...set)))).toEqual(installed(...set));
  });

  test("wants a name for the cluster", () => expect(() => template()).toThrow(/say --set cluster=NAME/));

  test.each(["profile=demo", "network=n1", "dns.clusterIP=10.96.7.7", "gateways.ingress.replica=2"])(
    "refuses what it does not read: %s",
    (set) => expect(() => template("cluster=c1", set)).toThrow(/additional propert/i),
  );

  test.each([
    ["controlPlane.replicas=many", /replicas.*(integer|string)/i],
    ["controlPlane.replicas=0", /replicas.*(0|1)/i],
    ["revision=Canary_1", /revision.*pattern/i],
    ["image=mesh", /image.*pattern/i],
    ["dataPlane=nginx", /dataPlane.*(embedded|enum)/i],
    ["revision=dns", /revision cannot be dns: isthmus-dns is a part of the mesh/],
  ])("refuses what no setting can be: %s", (set, says) => expect(() => template("cluster=c1", set)).toThrow(says));

  test("is clean to helm lint, and packs", () => {
    expect(run("lint", "--strict", dir, "--set", "cluster=c1")).toContain("0 chart(s) failed");
    expect(run("package", dir, "--destination", dir)).toContain(`isthmus-${version}.tgz`);
  });
});

function runs(program: string, args: readonly string[]): boolean {
  try {
    execFileSync(program, [...args], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
