import { writeManifest } from "../../resources/index.ts";
import { renderStages } from "../render/manifest.ts";
import type { Manifest } from "../render/object.ts";
import { overlay } from "../settings/field.ts";
import { partNames } from "../settings/read.ts";
import type { Settings } from "../settings/settings.ts";
import { either, type Part, written } from "./braid.ts";
import { valuesSchema } from "./schema.ts";
import { chartDefaults, chartPaths, chartProfile, chartValues, valueAt } from "./values.ts";

/** A file of the chart, with its path inside it. */
export interface ChartFile {
  readonly path: string;
  readonly text: string;
}

/**
 * A chart of the same objects that `isthmus install` applies: rendered with marks in the place of values, and the marks
 * then written as what a template says there. Where a value decides which lines there are, it is rendered with each of the
 * two, and the texts are braided. So chart and installer cannot come apart.
 */
export function helmChart(version: string): readonly ChartFile[] {
  const marks = new Marks();
  const marked = markedSettings(version, marks);
  const definitions = renderStages(marked, defaultFacts).base.filter(({ kind }) => kind === "CustomResourceDefinition");
  const templates = braided(marked, choicesOf(marks));
  return [
    { path: "Chart.yaml", text: chartFile(version) },
    { path: "values.yaml", text: valuesFile(version) },
    { path: "values.schema.json", text: schemaFile() },
    ...definitions.map((manifest) => ({
      path: `crds/${manifest.metadata.name}.yaml`,
      text: writeManifest([manifest]),
    })),
    ...[...templates].map(([file, { parts, condition }]) => ({
      path: `templates/${file}`,
      text: within(`${written(parts, (line) => marks.written(line)).join("\n")}\n`, condition),
    })),
    { path: "templates/NOTES.txt", text: notes },
  ];
}

const defaultFacts = { isDefault: true, trusted: false };

/** Helm makes namespace and definitions itself; what it was told it records itself. */
function isCharted({ kind, metadata }: Manifest): boolean {
  return (
    kind !== "Namespace" && kind !== "CustomResourceDefinition" && !metadata.name.startsWith("isthmus-installation")
  );
}

interface Choice {
  readonly condition: string;
  /** Settings where it holds, and where it does not. */
  readonly holds: (settings: Settings) => Settings;
  readonly fails: (settings: Settings) => Settings;
}

function choicesOf(marks: Marks): readonly Choice[] {
  const [revision, image, digest] = [
    marks.text(".Values.revision"),
    marks.text(".Values.image"),
    marks.text(".Values.image", "@"),
  ];
  return [
    {
      condition: 'eq .Values.revision "default"',
      holds: (settings) => settings,
      fails: (settings) => ({ ...settings, revision }),
    },
    {
      condition: ".Values.image",
      holds: (settings) => ({ ...settings, image }),
      fails: (settings) => settings,
    },
    {
      condition: 'contains "@" .Values.image',
      holds: (settings) => (settings.image === "" ? settings : { ...settings, image: digest }),
      fails: (settings) => settings,
    },
    {
      condition: 'eq .Values.dataPlane "envoy"',
      holds: (settings) => ({ ...settings, dataPlane: "envoy" }),
      fails: (settings) => ({ ...settings, dataPlane: "embedded" }),
    },
  ];
}

type Templates = ReadonlyMap<string, { readonly parts: readonly Part[]; readonly condition: string | undefined }>;

/** The charted objects by file, as every choice makes them. What is not there with one has no lines then. */
function braided(settings: Settings, [choice, ...more]: readonly Choice[]): Templates {
  if (!choice) {
    const { base, controlPlane, webhooks, gateways, rules } = renderStages(settings, {
      ...defaultFacts,
      // Another one stands beside it: which of them is the default is the installer's to change.
      isDefault: settings.revision === "default",
    });
    const all = [...base, ...controlPlane, ...webhooks, ...gateways, ...rules].filter(isCharted);
    return new Map(
      all.map((manifest) => [
        fileOf(manifest),
        { parts: writeManifest([manifest]).trimEnd().split("\n"), condition: conditionOf(manifest) },
      ]),
    );
  }
  const [holds, fails] = [braided(choice.holds(settings), more), braided(choice.fails(settings), more)];
  return new Map(
    [...new Set([...holds.keys(), ...fails.keys()])].map((file) => {
      const [one, other] = [holds.get(file), fails.get(file)];
      const parts = either(choice.condition, one?.parts ?? [], other?.parts ?? []);
      return [file, { parts, condition: (one ?? other)!.condition }];
    }),
  );
}

/** Marks are words that YAML needs no quotes for and that nothing else contains. */
class Marks {
  readonly #expressions: Array<{ readonly word: string; readonly expression: string; readonly as: "text" | "yaml" }> =
    [];

  /** `holding`: what the value holds, for who looks for that in it. */
  text(expression: string, holding = ""): string {
    return this.#mark(expression, "text", holding);
  }

  yaml(expression: string): unknown {
    return this.#mark(expression, "yaml");
  }

  #mark(expression: string, as: "text" | "yaml", holding = ""): string {
    const word = `zz${as}${this.#expressions.length}${holding}zz`;
    this.#expressions.push({ word, expression, as });
    return word;
  }

  /** The text with its marks as template expressions. */
  written(text: string): string {
    // Braces that are ours already would be taken for a template's.
    let out = text.replaceAll("{{", '{{ "{{" }}');
    for (const { word, expression, as } of this.#expressions) {
      if (as === "text") {
        // A whole scalar is quoted, so that "true" or "1.10" stays a text; a part of one stands inside it.
        out = out.replaceAll(new RegExp(`(?<=: |- )"?${word}"?$`, "gm"), `{{ ${expression} | quote }}`);
        out = out.replaceAll(word, `{{ ${expression} }}`);
      } else {
        // Inside JSON text, as in the injector's settings, and as a value of YAML.
        out = out.replaceAll(new RegExp(`"${word}"`, "g"), `{{ ${expression} | toJson }}`);
        out = out.replaceAll(word, `{{ ${expression} | toJson }}`);
      }
    }
    return out;
  }
}

function markedSettings(version: string, marks: Marks): Settings {
  const defaults = chartDefaults(version);
  let settings: unknown = { ...defaults, namespace: marks.text(".Release.Namespace") };
  for (const { path, as } of chartValues) {
    const expression = `.Values.${path.join(".")}`;
    const mark = as === "text" ? marks.text(expression) : marks.yaml(expression);
    settings = overlay(
      settings,
      path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), mark),
    );
  }
  return settings as Settings;
}

/** `{{- if … }}` around an object that a value can turn off. */
function conditionOf({ kind, metadata }: Manifest): string | undefined {
  const { name } = metadata;
  const on = (path: string) => `.Values.${path}.enabled`;
  if (name.includes("multicluster-ingressgateway")) return `and ${on("multicluster")} ${on("gateways.ingress")}`;
  if (name.includes("multicluster-egressgateway")) return `and ${on("multicluster")} ${on("gateways.egress")}`;
  if (name.includes("multicluster")) return on("multicluster");
  if (name.startsWith("isthmus-ingressgateway")) return on("gateways.ingress");
  if (name.startsWith("isthmus-egressgateway")) return on("gateways.egress");
  if (name === "isthmus-dns") return on("dns");
  if (kind === "MutatingWebhookConfiguration") return on("injection");
  if (kind === "ValidatingWebhookConfiguration") return on("validation");
  return undefined;
}

function within(text: string, condition: string | undefined): string {
  return condition === undefined ? text : `{{- if ${condition} }}\n${text}{{- end }}\n`;
}

function fileOf({ kind, metadata }: Manifest): string {
  const name = metadata.name.replaceAll(/-?zz[a-z]+\d+zz/g, "");
  return `${name}-${kind.toLowerCase()}.yaml`;
}

function chartFile(version: string): string {
  return writeManifest([
    {
      apiVersion: "v2",
      name: "isthmus",
      description:
        "One service mesh over many Kubernetes clusters, joined only at gateways and by a shared root of trust.",
      type: "application",
      version,
      appVersion: version,
      kubeVersion: ">=1.25.0-0",
    },
  ]);
}

function valuesOf(version: string): object {
  const defaults = chartDefaults(version);
  return chartPaths.reduce<unknown>(
    (all, path) =>
      overlay(
        all,
        path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), valueAt(defaults, path)),
      ),
    {},
  ) as object;
}

function schemaFile(): string {
  return `${JSON.stringify(valuesSchema(chartPaths), null, 2)}\n`;
}

function valuesFile(version: string): string {
  return `# Profile ${chartProfile}, as \`isthmus manifest helm\` writes it. Docs of each setting: docs/kubernetes.md.
# cluster must be given: --set cluster=NAME. Secret cacerts must be in the namespace before.
${writeManifest([valuesOf(version)])}`;
}

const notes = `{{- if not .Values.cluster }}{{ fail "say --set cluster=NAME: the name of this cluster in the mesh" }}{{- end }}
{{- if has .Values.revision (list ${partNames.map((name) => `"${name}"`).join(" ")}) }}{{ fail (printf "revision cannot be %s: isthmus-%s is a part of the mesh" .Values.revision .Values.revision) }}{{- end }}
The mesh is installed as cluster {{ .Values.cluster }}. It starts once Secret cacerts is in namespace {{ .Release.Namespace }}.
Let pods of a namespace join: kubectl label namespace NAME {{ if eq .Values.revision "default" }}istio-injection=enabled{{ else }}istio.io/rev={{ .Values.revision }}{{ end }}
`;
