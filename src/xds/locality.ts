import type { Endpoint, MergedRule } from "../model/index.ts";
import { distance, type Labels, type Locality } from "../values/index.ts";
import type { PortPolicy } from "./policy.ts";

/**
 * How endpoints are laid out for one client: all alike; shared out among places by weight; or near ones first, where
 * something finds out that an endpoint is away and the others are there to fall back on.
 */
export type Layout =
  | { readonly kind: "flat" }
  | { readonly kind: "shared-out"; readonly to: ReadonlyArray<{ readonly place: string; readonly weight: number }> }
  | {
      readonly kind: "near-first";
      readonly from: Locality;
      /** The region to go to when the client's own has nothing left. */
      readonly refuge: string | undefined;
      /** Labels in order, with what the client has there; undefined ranks by place. */
      readonly labels: ReadonlyArray<{ readonly key: string; readonly value: string | undefined }> | undefined;
    };

/** Where a client is, and the labels it can be compared by. */
export interface Standpoint {
  readonly locality: Locality;
  readonly network: string;
  readonly labels: Labels;
}

type LocalitySetting = NonNullable<NonNullable<PortPolicy["loadBalancer"]>["localityLbSetting"]>;

const flat: Layout = { kind: "flat" };

export function layoutFor(policy: PortPolicy, client: Standpoint): Layout {
  const setting = policy.loadBalancer?.localityLbSetting;
  if (setting?.enabled === false) return flat;
  if (setting && setting.distribute.length > 0) {
    const rule = setting.distribute.find(({ from }) => placeCovers(from, client.locality));
    if (!rule) return flat;
    const to = Object.entries(rule.to).map(([place, weight]) => ({ place, weight }));
    // The narrowest place that covers an endpoint counts.
    return { kind: "shared-out", to: to.sort((a, b) => depth(b.place) - depth(a.place)) };
  }
  if (!policy.outlierDetection && !policy.healthCheck) return flat;
  return {
    kind: "near-first",
    from: client.locality,
    refuge: setting?.failover.find(({ from }) => from === client.locality.region)?.to,
    labels: setting && setting.failoverPriority.length > 0 ? labelsOf(setting, client) : undefined,
  };
}

/** `key` compares with the client's own label, `key=value` with a value that is given. */
function labelsOf({ failoverPriority }: LocalitySetting, client: Standpoint) {
  return failoverPriority.map((written) => {
    const [key, value] = splitLabel(written);
    return { key, value: value ?? labelOf(key, client) };
  });
}

function splitLabel(written: string): [string, string | undefined] {
  const at = written.indexOf("=");
  return at < 0 ? [written, undefined] : [written.slice(0, at), written.slice(at + 1)];
}

/** A label, or what the well-known label of that name stands for. */
function labelOf(key: string, { locality, network, labels }: Standpoint): string | undefined {
  switch (key) {
    case "topology.kubernetes.io/region":
    case "failure-domain.beta.kubernetes.io/region":
      return locality.region;
    case "topology.kubernetes.io/zone":
    case "failure-domain.beta.kubernetes.io/zone":
      return locality.zone;
    case "topology.istio.io/subzone":
      return locality.subzone;
    case "topology.istio.io/network":
      return network;
    default:
      return labels[key];
  }
}

/** How late an endpoint's turn comes; 0 is the first choice. Numbers are compared, gaps mean nothing. */
export function rankOf(endpoint: Endpoint, layout: Layout): number {
  if (layout.kind !== "near-first") return 0;
  const { from, refuge, labels } = layout;
  const away = distance(from, endpoint.locality);
  const byPlace = away === 3 && refuge !== undefined && endpoint.locality.region !== refuge ? 4 : away;
  if (!labels) return byPlace;
  const differs = labels.findIndex(({ key, value }) => labelOf(key, endpoint) !== value);
  const byLabels = differs < 0 ? 0 : labels.length - differs;
  // Where a refuge is named too, it decides among those that the labels leave alike.
  return byLabels * 5 + (refuge === undefined ? 0 : byPlace);
}

/**
 * Weights of groups of endpoints, one a place: each place that a rule names shares its weight among the groups in it.
 * A group of no named place gets nothing.
 */
export function sharesOf(
  groups: ReadonlyArray<{ readonly locality: Locality; readonly weight: number }>,
  { to }: Extract<Layout, { kind: "shared-out" }>,
): readonly (number | undefined)[] {
  const chosen = groups.map(({ locality }) => to.find(({ place }) => placeCovers(place, locality)));
  return groups.map(({ weight }, at) => {
    const rule = chosen[at];
    if (!rule) return undefined;
    const total = groups.reduce((sum, group, other) => (chosen[other] === rule ? sum + group.weight : sum), 0);
    // In hundredths of a percent, so that a place can be divided among several groups.
    return Math.max(1, Math.round((rule.weight * 100 * weight) / total));
  });
}

const depth = (place: string) => place.split("/").filter((part) => part !== "*").length;

/** `region/zone/*` covers all subzones of a zone; what is left out is covered too. */
function placeCovers(place: string, { region, zone, subzone }: Locality): boolean {
  const there = [region, zone, subzone];
  return place.split("/").every((part, at) => part === "*" || part === there[at]);
}

/** Whether it matters to a rule where the client is. */
export function placeMatters(rule: MergedRule | undefined): boolean {
  if (!rule) return false;
  if (rule.healthCheck) return true;
  return settingsOf(rule).some(
    ({ outlierDetection, loadBalancer }) =>
      outlierDetection !== undefined || (loadBalancer?.localityLbSetting?.distribute.length ?? 0) > 0,
  );
}

/** The labels of the client that a rule compares with those of endpoints. */
export function comparedLabels(rule: MergedRule | undefined): readonly string[] {
  if (!rule) return [];
  const written = settingsOf(rule).flatMap(
    ({ loadBalancer }) => loadBalancer?.localityLbSetting?.failoverPriority ?? [],
  );
  return [...new Set(written.filter((one) => !one.includes("=")))].sort();
}

function settingsOf(rule: MergedRule): ReadonlyArray<Pick<PortPolicy, "outlierDetection" | "loadBalancer">> {
  return [rule.policy, ...rule.subsets.map((subset) => subset.policy)].flatMap((policy) =>
    policy ? [policy, ...policy.portLevelSettings] : [],
  );
}
