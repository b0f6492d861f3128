import { profileSettings } from "../settings/profiles.ts";
import type { ProfileName, Settings } from "../settings/settings.ts";

/** A setting that the chart's values carry, and how a template writes it. */
interface ChartValue {
  readonly path: readonly string[];
  /** `text` within any text; `yaml` for what is not a text: numbers, lists, mappings. */
  readonly as: "text" | "yaml";
}

/** The common settings. All others are as the profile has them: for those there is `isthmus install`. */
export const chartValues: readonly ChartValue[] = [
  { path: ["cluster"], as: "text" },
  { path: ["hub"], as: "text" },
  { path: ["tag"], as: "text" },
  { path: ["imagePullPolicy"], as: "text" },
  { path: ["trustDomain"], as: "text" },
  { path: ["clusterDomain"], as: "text" },
  { path: ["outboundPolicy"], as: "text" },
  { path: ["logLevel"], as: "text" },
  { path: ["controlPlane", "replicas"], as: "yaml" },
  { path: ["controlPlane", "resources", "requests"], as: "yaml" },
  { path: ["controlPlane", "resources", "limits"], as: "yaml" },
  ...(["ingress", "egress"] as const).flatMap((role): readonly ChartValue[] => [
    { path: ["gateways", role, "type"], as: "text" },
    { path: ["gateways", role, "annotations"], as: "yaml" },
    { path: ["gateways", role, "replicas"], as: "yaml" },
    { path: ["gateways", role, "resources", "requests"], as: "yaml" },
    { path: ["gateways", role, "resources", "limits"], as: "yaml" },
  ]),
  { path: ["injection", "failurePolicy"], as: "text" },
  { path: ["injection", "timeoutSeconds"], as: "yaml" },
  { path: ["validation", "timeoutSeconds"], as: "yaml" },
];

/** Values on which the objects' lines depend: each is a choice of two, which the chart makes at its own time. */
export const chartChoices = [["revision"], ["image"], ["dataPlane"]] as const;

/** Parts that a value turns on and off. */
export const chartSwitches: readonly (readonly string[])[] = [
  ["gateways", "ingress", "enabled"],
  ["gateways", "egress", "enabled"],
  ["dns", "enabled"],
  ["multicluster", "enabled"],
  ["injection", "enabled"],
  ["validation", "enabled"],
];

/** The profile that the chart stands for: the guide's. */
export const chartProfile: ProfileName = "multicluster-gateways";

/** All that the chart reads. */
export const chartPaths: readonly (readonly string[])[] = [
  ...chartChoices,
  ...chartValues.map(({ path }) => path),
  ...chartSwitches,
];

/** The settings that the chart has when nobody says anything. */
export function chartDefaults(version: string): Settings {
  return profileSettings(chartProfile, version);
}

export function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((inner, key) => (inner as Record<string, unknown>)[key], value);
}
