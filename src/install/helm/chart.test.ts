import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
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
  const all = renderAll(settings, { isDefault: true, trusted: false });
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
  const body = text.replace(
    /^\{\{- if (.*?) \}\}\n([\s\S]*)\{\{- end \}\}\n$/,
    (_, condition: string, inner: string) =>
      condition
        .replace(/^and /, "")
        .split(" ")
        .every((one) => lookUp(one) === true)
        ? inner
        : "",
  );
  return body.replace(/\{\{ (\S+)(?: \| (quote|toJson))? \}\}/g, (_, expression: string, how?: string) => {
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

  test("leaves no mark behind", () => {
    for (const { path, text } of chart) expect(text, path).not.toMatch(/zz(text|yaml)\d/);
  });

  // Helm is a Go program: go install helm.sh/helm/v3/cmd/helm@v3.18.6, or any other; HELM names it.
  const helm = process.env["HELM"] ?? "helm";
  const there = runs(helm, ["version", "--short"]);
  if (!there)
    process.stderr.write(`SKIPPED: there is no Helm ("${helm}") to hold the chart against; set HELM to its path\n`);
  test.skipIf(!there)("is the same in Helm's own eyes", () => {
    const dir = mkdtempSync(join(tmpdir(), "isthmus-chart-"));
    try {
      writeChart(dir, version);
      const args = ["template", "isthmus", dir, "--namespace", namespace, "--set", "cluster=c1", "--include-crds"];
      const text = execFileSync(helm, args, { encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
      expect(byName(plainObjects(text))).toEqual(installed());
      expect(() => execFileSync(helm, ["template", "isthmus", dir], { stdio: "pipe" })).toThrow(
        /say --set cluster=NAME/,
      );
      execFileSync(helm, ["lint", dir, "--set", "cluster=c1"], { stdio: "pipe" });
    } finally {
      rmSync(dir, { recursive: true });
    }
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
