import { bookFor, cached, type Mesh, selectedCredentials } from "../model/index.ts";
import { type Snapshot, type TypeUrl, typeUrls, type Versioned } from "../proto/index.ts";
import { changesBetween, type Labels, nowhere, type SortedMap } from "../values/index.ts";
import { type Client, clientOf } from "./client.ts";
import { sameContent } from "./encode.ts";
import { blackHole, inboundPassthrough, passthrough } from "./fixed.ts";
import { gatewayParts } from "./gateway.ts";
import { grpcParts } from "./grpc.ts";
import { boundInbound, inboundCluster, virtualInbound } from "./inbound.ts";
import { type InboundPort, inboundPorts } from "./inbound-ports.ts";
import { explicitOutbound, virtualOutbound } from "./listeners.ts";
import type { ProxyNode } from "./node.ts";
import { type Outbound, outboundFor } from "./outbound.ts";
import { type Parts, put } from "./parts.ts";
import { secretResources } from "./secrets.ts";

const outboundOf = new WeakMap<Snapshot, Outbound>();

/**
 * What one proxy should run. Frozen; resources that did not change are the same objects as in any other snapshot. With
 * the one that it ran before at hand, making it costs what changed.
 */
export function snapshotFor(everybodys: Mesh, node: ProxyNode, previous?: Snapshot): Snapshot {
  // What the cluster says of a pod counts more than what the pod says of itself.
  const workload = everybodys.workloads.get(`${node.namespace}/${node.name}`);
  const labels = workload?.labels ?? node.labels;
  const locality = workload && workload.locality !== nowhere ? workload.locality : node.locality;
  const mesh = meshSeenBy(everybodys, { namespace: node.namespace, labels });
  const client = clientOf(mesh, node, { labels, locality });
  if (node.generator === "grpc") return snapshotOf(grpcParts(mesh, client));
  if (node.role === "router") return snapshotOf(gatewayParts(mesh, node, client));
  const outbound = outboundFor(mesh, client, previous && outboundOf.get(previous));
  const snapshot = snapshotOf(keeping(previous, sidecarParts(mesh, node, { client, outbound })));
  outboundOf.set(snapshot, outbound);
  return snapshot;
}

const seen = new WeakMap<Mesh, WeakMap<Mesh["rules"], Mesh>>();

/** The mesh with the rules that a workload follows. */
function meshSeenBy(mesh: Mesh, workload: { readonly namespace: string; readonly labels: Labels }): Mesh {
  const rules = bookFor(mesh.rules, workload);
  if (rules === mesh.rules) return mesh;
  const byRules = cached(seen, mesh, () => new WeakMap<Mesh["rules"], Mesh>());
  return cached(byRules, rules, () => Object.freeze({ ...mesh, rules }));
}

type Resources = ReadonlyMap<string, Versioned>;
type Whole = { readonly [K in keyof Parts]: Resources };

function snapshotOf(parts: Whole): Snapshot {
  const entries: Array<[TypeUrl, Resources]> = [
    [typeUrls.cluster, parts.cluster],
    [typeUrls.endpoints, parts.endpoints],
    [typeUrls.listener, parts.listener],
    [typeUrls.route, parts.route],
    [typeUrls.secret, parts.secret],
    [typeUrls.names, parts.names],
  ];
  return new Map(entries);
}

interface SidecarParts extends Whole {
  readonly cluster: SortedMap<string, Versioned>;
  readonly listener: SortedMap<string, Versioned>;
  /** Names of what is made for this workload alone. */
  readonly own: ReadonlySet<string>;
}

/** What is made for one workload alone and came out as it was stays the same object, and so do maps without a change. */
function keeping(previous: Snapshot | undefined, parts: SidecarParts): Whole {
  const keep = (type: TypeUrl, now: SortedMap<string, Versioned>): Resources => {
    const old = previous?.get(type);
    if (!old) return now;
    const same = changesBetween(old, now).filter(
      ({ key, before, after }) => parts.own.has(key) && before && after && sameContent(before, after),
    );
    const kept = now.with(same.map(({ key, before }) => [key, before]));
    return changesBetween(old, kept).length === 0 ? old : kept;
  };
  return {
    ...parts,
    cluster: keep(typeUrls.cluster, parts.cluster),
    listener: keep(typeUrls.listener, parts.listener),
  };
}

function sidecarParts(
  mesh: Mesh,
  node: ProxyNode,
  { client, outbound }: { readonly client: Client; readonly outbound: Outbound },
): SidecarParts {
  const cluster = new Map<string, Versioned>();
  const listener = new Map<string, Versioned>();
  put(cluster, blackHole, passthrough);
  const inbound = inboundPorts(mesh, node, client.labels);
  if (node.interception.mode === "redirect") {
    put(cluster, inboundPassthrough, ...[...inbound.values()].map(inboundCluster));
    put(listener, virtualOutbound(mesh), virtualInbound(inbound.values()));
  } else {
    const { appPorts, explicitPort } = node.interception;
    if (explicitPort !== undefined) put(listener, explicitOutbound(mesh, explicitPort));
    for (const [listen, app] of Object.entries(appPorts)) {
      const declared = inbound.get(Number(listen)) ?? inbound.get(app);
      const port: InboundPort = declared
        ? { ...declared, app }
        : { app, protocol: "unset", servicePort: app, service: undefined };
      put(cluster, inboundCluster(port));
      put(listener, boundInbound(Number(listen), port));
    }
  }
  // What the workload's own ports add goes into copies; the rest is shared by all who are alike.
  const { clusters, listeners, endpoints, routes, names } = outbound;
  return {
    cluster: withOwn(clusters, cluster),
    endpoints,
    listener: withOwn(listeners.made, listener),
    route: routes.made,
    secret: secretResources(
      mesh,
      node,
      selectedCredentials(mesh.rules, { namespace: node.namespace, labels: client.labels }),
    ),
    names,
    own: new Set([...cluster.keys(), ...listener.keys()]),
  };
}

/** Of two resources of one name the shared one stays. */
function withOwn(shared: SortedMap<string, Versioned>, own: Resources): SortedMap<string, Versioned> {
  return shared.with([...own].filter(([name]) => !shared.has(name)));
}
