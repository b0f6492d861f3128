import type { ContainerJson, PodSpecJson, ProbeJson } from "./pod.ts";

// Kubelet asks from outside the pod and has no certificate of the mesh: a proxy that wants one would turn it away, and to
// a TCP probe it is the proxy that answers. So kubelet asks the proxy's own server, and that asks the application.

/** What the proxy is to ask the application, by the path at which it is asked: the content of `ISTIO_KUBE_APP_PROBERS`. */
export type AppProbers = Readonly<Record<string, ProbeJson>>;

export interface RewrittenProbes {
  readonly containers: readonly ContainerJson[];
  readonly initContainers: readonly ContainerJson[];
  readonly probers: AppProbers;
}

const kinds = { readinessProbe: "readyz", livenessProbe: "livez", startupProbe: "startupz" } as const;

/**
 * HTTP, TCP and gRPC probes of all containers, to HTTP at `statusPort`. Probes by command stay, as do those for another
 * host than the pod, and those for a port that the container does not name.
 */
export function rewriteProbes(
  spec: Pick<PodSpecJson, "containers" | "initContainers">,
  options: {
    readonly statusPort: number /** Whether the proxy runs before the pod's own init containers. */;
    readonly proxyFirst: boolean;
  },
): RewrittenProbes {
  const probers: Record<string, ProbeJson> = {};
  const rewrite = (container: ContainerJson): ContainerJson => {
    const changed: Partial<Record<keyof typeof kinds, ProbeJson>> = {};
    for (const kind of Object.keys(kinds) as (keyof typeof kinds)[]) {
      const original = container[kind] && proberOf(container[kind], container);
      if (!original) continue;
      const path = `/app-health/${container.name}/${kinds[kind]}`;
      probers[path] = original;
      const { httpGet: _http, tcpSocket: _tcp, grpc: _grpc, ...rest } = container[kind]!;
      changed[kind] = { ...rest, httpGet: { path, port: options.statusPort } };
    }
    return { ...container, ...changed };
  };
  return {
    containers: (spec.containers ?? []).map(rewrite),
    // One that waits for its init containers would never hear of a proxy that waits for them too.
    initContainers: options.proxyFirst ? (spec.initContainers ?? []).map(rewrite) : (spec.initContainers ?? []),
    probers,
  };
}

/** The part of a probe that says what is asked, with the port as a number; undefined where it is to stay as it is. */
function proberOf(probe: ProbeJson, container: ContainerJson): ProbeJson | undefined {
  const { httpGet, tcpSocket, grpc, timeoutSeconds } = probe;
  const timeout = timeoutSeconds === undefined ? {} : { timeoutSeconds };
  if (httpGet && !httpGet.host) {
    const port = numberOf(httpGet.port, container);
    return port === undefined ? undefined : { httpGet: { ...httpGet, port }, ...timeout };
  }
  if (tcpSocket && !tcpSocket.host) {
    const port = numberOf(tcpSocket.port, container);
    return port === undefined ? undefined : { tcpSocket: { port }, ...timeout };
  }
  return grpc && typeof grpc.port === "number" ? { grpc, ...timeout } : undefined;
}

function numberOf(port: number | string | undefined, container: ContainerJson): number | undefined {
  if (typeof port === "number") return port;
  return (container.ports ?? []).find(({ name }) => name !== undefined && name === port)?.containerPort;
}
