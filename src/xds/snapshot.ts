import { cached, type Mesh, ruleFor } from "../model/index.ts";
import { type Snapshot, type TypeUrl, typeUrls, type Versioned } from "../proto/index.ts";
import type { Labels } from "../values/index.ts";
import { type Client, clientOf, visibleServices } from "./client.ts";
import { clustersOf } from "./clusters.ts";
import { blackHole, inboundPassthrough, passthrough } from "./fixed.ts";
import { gatewayParts } from "./gateway.ts";
import { grpcParts } from "./grpc.ts";
import { boundInbound, type InboundPort, inboundCluster, inboundPorts, virtualInbound } from "./inbound.ts";
import { explicitOutbound, outboundListeners, virtualOutbound } from "./listeners.ts";
import { nameTables } from "./names.ts";
import type { ProxyNode } from "./node.ts";
import { type Parts, put } from "./parts.ts";
import { outboundRoutes } from "./routes.ts";

type ReadableParts = { readonly [K in keyof Parts]: ReadonlyMap<string, Versioned> };

/** What one proxy should run. Frozen; resources that did not change are the same objects as in any other snapshot. */
export function snapshotFor(mesh: Mesh, node: ProxyNode): Snapshot {
  const labels = labelsOf(mesh, node);
  const client = clientOf(node, labels);
  if (node.generator === "grpc") return freeze(grpcParts(mesh, client));
  return freeze(node.role === "router" ? gatewayParts(mesh, node, client) : sidecarParts(mesh, node, client));
}

/** What the cluster says of a pod counts more than what the pod says of itself. */
function labelsOf(mesh: Mesh, node: ProxyNode): Labels {
  return mesh.workloads.get(`${node.namespace}/${node.name}`)?.labels ?? node.labels;
}

function freeze(parts: ReadableParts): Snapshot {
  const entries: Array<[TypeUrl, ReadonlyMap<string, Versioned>]> = [
    [typeUrls.cluster, parts.cluster],
    [typeUrls.endpoints, parts.endpoints],
    [typeUrls.listener, parts.listener],
    [typeUrls.route, parts.route],
    [typeUrls.names, parts.names],
  ];
  return new Map(entries);
}

interface Outbound {
  readonly clusters: ReadonlyMap<string, Versioned>;
  readonly endpoints: ReadonlyMap<string, Versioned>;
  readonly listeners: ReadonlyMap<string, Versioned>;
  readonly routes: ReadonlyMap<string, Versioned>;
}

const outboundOf = new WeakMap<Mesh, Map<string, Outbound>>();

/** The outbound half, made once for all clients that are alike. */
function outboundFor(mesh: Mesh, client: Client): Outbound {
  const byClient = cached(outboundOf, mesh, () => new Map<string, Outbound>());
  let made = byClient.get(client.key);
  if (!made) {
    const services = visibleServices(mesh, client.namespace);
    const clusters = new Map<string, Versioned>();
    const endpoints = new Map<string, Versioned>();
    const from = { namespace: client.namespace, systemNamespace: mesh.settings.systemNamespace };
    for (const service of services.values()) {
      const rule = ruleFor(mesh.rules, service, from);
      for (const one of clustersOf(service, { rule, client, settings: mesh.settings, form: "own-traffic" })) {
        clusters.set(one.cluster.name, one.cluster);
        if (one.endpoints) endpoints.set(one.endpoints.name, one.endpoints);
      }
    }
    const listeners = outboundListeners(mesh, services.values(), client);
    made = { clusters, endpoints, listeners, routes: outboundRoutes(mesh, services, client) };
    byClient.set(client.key, made);
  }
  return made;
}

function sidecarParts(mesh: Mesh, node: ProxyNode, client: Client): ReadableParts {
  const outbound = outboundFor(mesh, client);
  // What the workload's own ports add goes into copies; the rest is the same map for all who are alike.
  const parts = {
    cluster: new Map(outbound.clusters),
    endpoints: outbound.endpoints,
    listener: new Map(outbound.listeners),
    route: outbound.routes,
    names: nameTables(mesh, node.namespace),
  };
  put(parts.cluster, blackHole, passthrough);
  const inbound = inboundPorts(mesh, node, client.labels);
  if (node.interception.mode === "redirect") {
    put(parts.cluster, inboundPassthrough, ...[...inbound.values()].map(inboundCluster));
    put(parts.listener, virtualOutbound(mesh), virtualInbound(inbound.values()));
    return parts;
  }
  const { appPorts, explicitPort } = node.interception;
  if (explicitPort !== undefined) put(parts.listener, explicitOutbound(mesh, explicitPort));
  for (const [listen, app] of Object.entries(appPorts)) {
    const declared = inbound.get(Number(listen)) ?? inbound.get(app);
    const port: InboundPort = declared
      ? { ...declared, app }
      : { app, protocol: "unset", servicePort: app, service: undefined };
    put(parts.cluster, inboundCluster(port));
    put(parts.listener, boundInbound(Number(listen), port));
  }
  return parts;
}
