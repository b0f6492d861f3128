import { Failure } from "../../base/index.ts";
import { documents } from "../../resources/index.ts";
import { dnsService, egressName, ingressName } from "../names.ts";
import { isLeaf, judge, overlay, pathText, type SettingPath, type SettingProblem, shapeAt } from "./field.ts";
import { profileSettings } from "./profiles.ts";
import { type ProfileName, profileNames, type Settings, settingsShape } from "./settings.ts";

export interface SettingsInput {
  /** In the order in which they were named: a later one covers an earlier one. */
  readonly files: ReadonlyArray<{ readonly file: string; readonly text: string }>;
  /** `path=value`, over all files. */
  readonly sets: readonly string[];
  /** The image's tag unless told otherwise. */
  readonly version: string;
}

/**
 * Profile, then files, then single settings. Throws `input/settings` with everything that is wrong, each thing with its
 * file, line and column, or with the option that said it.
 */
export function readSettings({ files, sets, version }: SettingsInput): Settings {
  const wrong: string[] = [];
  const layers = [
    ...files.flatMap(({ file, text }) => fileLayers(file, text, wrong)),
    ...sets.map((set) => setLayer(set, wrong)),
  ];
  const said = layers.reduce<unknown>(overlay, {}) as { readonly profile?: ProfileName };
  const profile = said.profile ?? "default";
  const settings = overlay(profileSettings(profile, version), said) as Settings;
  if (wrong.length === 0) wrong.push(...contradictions(settings));
  if (wrong.length > 0) {
    throw new Failure("input/settings", `the settings are wrong:\n${wrong.map((line) => `  ${line}`).join("\n")}`, {
      hint: "docs/kubernetes.md lists all settings",
    });
  }
  return settings;
}

function fileLayers(file: string, text: string, wrong: string[]): readonly unknown[] {
  const layers: unknown[] = [];
  for (const { value, problems, locate } of documents(text)) {
    for (const { line, column, message } of problems) wrong.push(`${file}:${line}:${column}: ${message}`);
    if (problems.length > 0) continue;
    const say = ({ path, at, message }: SettingProblem) => {
      const { line, column } = locate(path, at);
      wrong.push(`${file}:${line}:${column}: ${path.length > 0 ? `${pathText(path)}: ` : ""}${message}`);
    };
    layers.push(judge(settingsShape, value, say));
  }
  return layers;
}

/** `gateways.ingress.annotations.example\.com/size=big` as a layer of one setting. */
function setLayer(set: string, wrong: string[]): unknown {
  const refuse = (why: string) => {
    wrong.push(`--set ${set}: ${why}`);
    return {};
  };
  const cut = set.indexOf("=");
  if (cut < 1) return refuse("must be path=value");
  const path = splitPath(set.slice(0, cut));
  const written = set.slice(cut + 1);
  if (path.some((key) => key === "")) return refuse("has an empty part in its path");
  const field = shapeAt(settingsShape, path);
  let value: unknown = written;
  if (!isLeaf(field) || field.text === "yaml") {
    const [read, more] = [...documents(written)];
    const [problem] = read?.problems ?? [];
    if (problem || more) return refuse(problem ? problem.message : "holds more than one value");
    value = read?.value ?? null;
  } else if (field.open && isLeaf(shapeAt(settingsShape, path.slice(0, -1))) === false) {
    // The mapping as a whole, not one key of it.
    value = [...documents(written)][0]?.value ?? null;
  }
  const layer = path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value);
  return judge(settingsShape, layer, ({ path: at, message }) => refuse(`${pathText(at)} ${message}`));
}

/** At each dot that has no backslash before it. */
export function splitPath(text: string): readonly string[] {
  const parts = [""];
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (char === ".") parts.push("");
    else parts[parts.length - 1] += char === "\\" && at + 1 < text.length ? text[++at]! : char;
  }
  return parts;
}

/** What each setting allows, and all of them together do not. */
function contradictions(settings: Settings): readonly string[] {
  const found: Array<readonly [SettingPath, string]> = [];
  for (const role of ["ingress", "egress"] as const) {
    const gateway = settings.gateways[role];
    const at = (...path: string[]) => ["gateways", role, ...path];
    const { minReplicas, maxReplicas } = gateway.autoscaling;
    if (minReplicas > maxReplicas)
      found.push([at("autoscaling", "minReplicas"), `is ${minReplicas}, above maxReplicas, which is ${maxReplicas}`]);
    if (gateway.nodePort !== 0 && gateway.type === "ClusterIP")
      found.push([at("nodePort"), 'is of no use with type "ClusterIP"; set type to NodePort or LoadBalancer']);
    if (gateway.loadBalancerIP !== "" && gateway.type !== "LoadBalancer")
      found.push([at("loadBalancerIP"), `is of no use with type "${gateway.type}"; set type to LoadBalancer`]);
    if (gateway.externalTrafficPolicy !== "" && gateway.type === "ClusterIP")
      found.push([at("externalTrafficPolicy"), 'is of no use with type "ClusterIP"']);
  }
  if (partNames.includes(settings.revision))
    found.push([["revision"], `cannot be "${settings.revision}": isthmus-${settings.revision} is a part of the mesh`]);
  if (settings.demoCertificates && settings.profile !== "demo")
    found.push([["demoCertificates"], `is for profile demo alone: ${profileNames.join(", ")} are the profiles`]);
  return found.map(([path, message]) => `${pathText(path)} ${message}`);
}

/** Names of parts that are of no revision: with one of them for a revision its control plane would take the part's place. */
export const partNames: readonly string[] = [dnsService, ingressName, egressName].map((name) =>
  name.replace("isthmus-", ""),
);

/** The image of control plane and embedded proxy, and the same with an Envoy in it; of a digest there is no other form. */
export function imagesOf(settings: Settings): { readonly plain: string; readonly envoy: string } {
  const plain = settings.image === "" ? `${settings.hub}/isthmus:${settings.tag}` : settings.image;
  return { plain, envoy: plain.includes("@") ? plain : `${plain}-envoy` };
}
