import { cached, compareText, type MergedRule, type Mesh, type Service, visibleTo } from "../model/index.ts";
import {
  changesBetween,
  formatLocality,
  type Hostname,
  type Labels,
  type Locality,
  type SortedMap,
} from "../values/index.ts";
import { comparedLabels, placeMatters, type Standpoint } from "./locality.ts";
import type { ProxyNode } from "./node.ts";

/** What outbound configuration depends on; proxies for which this is equal share all of it. */
export interface Client extends Standpoint {
  /** Equal for clients that are alike as far as this mesh looks. */
  readonly key: string;
  readonly role: ProxyNode["role"];
  readonly namespace: string;
  /** The labels as one text, where any route looks at them; else empty. */
  readonly labelsKey: string;
  /** Networks whose endpoints it sees. */
  readonly networks: ReadonlySet<string>;
  /** Whether it asked for networks itself: then it sees those alone. */
  readonly requestedView: boolean;
  /** The parts of `key` that a cluster depends on: without the place, and with it. */
  readonly clusterKeys: { readonly anywhere: string; readonly here: string };
}

/** A proxy that asks for no view sees what is on no named network, and what is on its own. */
export function clientOf(
  mesh: Mesh,
  node: ProxyNode,
  { labels, locality }: { readonly labels: Labels; readonly locality: Locality },
): Client {
  const requestedView = node.networkView.length > 0;
  const networks = new Set(requestedView ? node.networkView : ["", node.network]);
  const anywhere = `${node.role} ${[...networks].sort().join(",")}`;
  const here = `${anywhere} ${formatLocality(locality)} ${node.network}`;
  // Deployments differ by their labels and machines by their place: all but a few meshes never look at either.
  const labelsKey = labelsMatter(mesh.virtualServices) ? JSON.stringify(Object.entries(labels).sort(byName)) : "";
  return {
    key: JSON.stringify([
      placesMatter(mesh.rules) ? here : anywhere,
      node.namespace,
      requestedView,
      labelsKey,
      labelsCompared(mesh.rules).map((name) => labels[name] ?? null),
    ]),
    labelsKey,
    clusterKeys: { anywhere, here },
    role: node.role,
    namespace: node.namespace,
    locality,
    network: node.network,
    labels,
    networks,
    requestedView,
  };
}

const byName = ([a]: [string, string], [b]: [string, string]) => compareText(a, b);

const labelled = new WeakMap<Mesh["virtualServices"], boolean>();

/** Whether any VirtualService is for some workloads and not for others. */
function labelsMatter(all: Mesh["virtualServices"]): boolean {
  const picky = ({ match }: { readonly match: ReadonlyArray<{ readonly sourceLabels: Labels }> }) =>
    match.some(({ sourceLabels }) => Object.keys(sourceLabels).length > 0);
  return cached(labelled, all, () =>
    all.some(({ spec }) => spec.http.some(picky) || spec.tcp.some(picky) || spec.tls.some(picky)),
  );
}

const placed = new WeakMap<Mesh["rules"], boolean>();
const compared = new WeakMap<Mesh["rules"], readonly string[]>();

/** Whether any rule has it matter where a client is. */
function placesMatter(book: Mesh["rules"]): boolean {
  return cached(placed, book, () => rulesIn(book).some(placeMatters));
}

/** The labels by which rules tell clients apart. */
function labelsCompared(book: Mesh["rules"]): readonly string[] {
  return cached(compared, book, () => [...new Set(rulesIn(book).flatMap(comparedLabels))].sort());
}

function rulesIn(book: Mesh["rules"]): readonly MergedRule[] {
  return [...book.byNamespace.values()].flatMap(({ exact, wildcards }) => [...exact.values(), ...wildcards]);
}

/** Equal for clients for which a rule's clusters are the same. */
export function clusterKey(client: Client, rule: MergedRule | undefined): string {
  const { anywhere, here } = client.clusterKeys;
  const labels = comparedLabels(rule);
  const place = placeMatters(rule) ? here : anywhere;
  return labels.length === 0 ? place : JSON.stringify([place, labels.map((name) => client.labels[name] ?? null)]);
}

const visible = new WeakMap<Mesh, Map<string, SortedMap<Hostname, Service>>>();

/**
 * The services that proxies of a namespace may see: of a contested host its own namespace's, else the oldest it may
 * see. With what they saw of an earlier mesh at hand, only the differences are looked at.
 */
export function visibleServices(
  mesh: Mesh,
  namespace: string,
  before?: { readonly mesh: Mesh; readonly services: SortedMap<Hostname, Service> },
): SortedMap<Hostname, Service> {
  const byNamespace = cached(visible, mesh, () => new Map<string, SortedMap<Hostname, Service>>());
  return cached(byNamespace, namespace, () => {
    if (mesh.contested.size === 0 && mesh.restricted.size === 0) return mesh.services;
    if (!before) return mesh.services.with(special(mesh).map((host) => [host, seenFrom(mesh, host, namespace)]));
    const changed = new Set([
      ...changesBetween(before.mesh.services, mesh.services).map((one) => one.key),
      ...changesBetween(before.mesh.contested, mesh.contested).map((one) => one.key),
    ]);
    return before.services.with([...changed].map((host) => [host, seenFrom(mesh, host, namespace)]));
  });
}

const special = ({ contested, restricted }: Mesh) => [...contested.keys(), ...restricted.keys()];

function seenFrom(mesh: Mesh, host: Hostname, namespace: string): Service | undefined {
  const general = mesh.services.get(host);
  const all = mesh.contested.get(host) ?? (general ? [general] : []);
  const seen = all.filter((one) => visibleTo(one.visibility, namespace));
  return seen.find((one) => one.namespace === namespace) ?? seen[0];
}
