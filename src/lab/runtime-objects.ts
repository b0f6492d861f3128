import { createHash } from "node:crypto";
import type { Service } from "../resources/index.ts";
import { ipv4FromNumber, ipv4ToNumber, type Labels, parseIp, selects } from "../values/index.ts";
import type { OuterPort } from "./router-rules.ts";

/** A pod as the endpoint controller sees it. */
export interface RunningPod {
  readonly namespace: string;
  readonly name: string;
  readonly ip: string;
  readonly wanIp: string | undefined;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly serviceAccount: string;
  readonly containers: readonly { readonly name: string; readonly ports: readonly ContainerPort[] }[];
  readonly injected: boolean;
  readonly ready: boolean;
  readonly terminating: boolean;
  /** Where callers reach a port of the pod: another number only where pods share one address. */
  readonly reachedAt: (port: number) => number;
  readonly setOuterPorts: (ports: readonly OuterPort[]) => Promise<void>;
}

interface ContainerPort {
  readonly name?: string | undefined;
  readonly containerPort: number;
}

/** The addresses that an API server and its controllers give out: the same for the same name, also after a restart. */
export class Addresses {
  readonly #clusterIps = new Map<string, string>();
  readonly #nodePorts = new Map<string, number>();

  /** A Service's cluster address: what it asks for, else one from its name. `service` is `namespace/name`. */
  clusterIp(service: string, wanted: string | undefined): string {
    if (wanted) {
      this.#clusterIps.set(service, wanted);
      return wanted;
    }
    const known = this.#clusterIps.get(service);
    if (known && known !== "None") return known;
    const taken = new Set(this.#clusterIps.values());
    const base = ipv4ToNumber(parseIp("10.96.0.0")!);
    // The first 256 are the system's own.
    for (let n = hash(service) % 65_000; ; n = (n + 1) % 65_000) {
      const ip = ipv4FromNumber(base + 256 + n);
      if (taken.has(ip)) continue;
      this.#clusterIps.set(service, ip);
      return ip;
    }
  }

  nodePort(key: string, wanted: number | undefined): number {
    const taken = new Set(this.#nodePorts.values());
    let port = wanted ?? this.#nodePorts.get(key);
    for (let n = hash(key) % 2768; port === undefined; n = (n + 1) % 2768) {
      if (!taken.has(30_000 + n)) port = 30_000 + n;
    }
    this.#nodePorts.set(key, port);
    return port;
  }

  forget(service: string): void {
    this.#clusterIps.delete(service);
    for (const key of this.#nodePorts.keys()) if (key.startsWith(`${service}:`)) this.#nodePorts.delete(key);
  }
}

function hash(text: string): number {
  return createHash("sha256").update(text).digest().readUInt32BE(0);
}

/** A Service with what the API server would have filled in, and its load balancer's address. */
export function serviceObject(service: Service, pods: readonly RunningPod[], addresses: Addresses): ServiceObject {
  const { name, namespace, labels, annotations } = service.metadata;
  const { spec } = service;
  const key = `${namespace}/${name}`;
  const external = spec.type === "ExternalName";
  const clusterIP = external ? undefined : addresses.clusterIp(key, spec.clusterIP || undefined);
  const wan = podsBehind(service, pods).flatMap(({ wanIp }) => (wanIp ? [wanIp] : []));
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace, labels, annotations },
    spec: {
      ...spec,
      ...(clusterIP ? { clusterIP, clusterIPs: [clusterIP] } : {}),
      ports: spec.ports.map((port) => ({
        ...port,
        targetPort: port.targetPort ?? port.port,
        ...(spec.type === "NodePort" || spec.type === "LoadBalancer"
          ? { nodePort: addresses.nodePort(`${key}:${port.port}`, port.nodePort) }
          : {}),
      })),
    },
    status: { loadBalancer: { ingress: spec.type === "LoadBalancer" ? wan.map((ip) => ({ ip })) : [] } },
  };
}

export interface ServiceObject {
  readonly apiVersion: string;
  readonly kind: "Service";
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels: Labels;
    readonly annotations: Labels;
  };
  readonly spec: Omit<Service["spec"], "ports" | "clusterIP" | "clusterIPs"> & {
    readonly clusterIP?: string | undefined;
    readonly clusterIPs: readonly string[];
    readonly ports: readonly (Omit<Service["spec"]["ports"][number], "nodePort"> & {
      readonly nodePort?: number | undefined;
    })[];
  };
  readonly status: object;
}

/** Pods that a Service selects; none for one without a selector, whose endpoints are somebody else's to write. */
export function podsBehind(service: Service, pods: readonly RunningPod[]): readonly RunningPod[] {
  const { selector } = service.spec;
  if (Object.keys(selector).length === 0 || service.spec.type === "ExternalName") return [];
  return pods.filter((pod) => pod.namespace === service.metadata.namespace && selects(selector, pod.labels));
}

/**
 * The EndpointSlices of a Service: one for each set of port numbers, because a named target port may be another number
 * in another pod.
 */
export function endpointSlices(service: Service, pods: readonly RunningPod[]): readonly object[] {
  const { name, namespace } = service.metadata;
  if (Object.keys(service.spec.selector).length === 0 || service.spec.type === "ExternalName") return [];
  const groups = new Map<string, { ports: object[]; endpoints: object[] }>();
  for (const pod of podsBehind(service, pods)) {
    const ports = service.spec.ports.flatMap((port) => {
      const number = targetPort(port.targetPort ?? port.port, pod);
      if (number === undefined) return [];
      const appProtocol = port.appProtocol === undefined ? {} : { appProtocol: port.appProtocol };
      return [{ name: port.name, port: pod.reachedAt(number), protocol: port.protocol, ...appProtocol }];
    });
    const key = JSON.stringify(ports);
    const group = groups.get(key) ?? { ports, endpoints: [] };
    groups.set(key, group);
    const ready = (pod.ready && !pod.terminating) || service.spec.publishNotReadyAddresses;
    group.endpoints.push({
      addresses: [pod.ip],
      conditions: { ready, serving: pod.ready, terminating: pod.terminating },
      targetRef: { kind: "Pod", namespace, name: pod.name },
      nodeName: "node",
    });
  }
  return [...groups.values()].map(({ ports, endpoints }, index) => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `${name}-${index}`, namespace, labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    ports,
    endpoints,
  }));
}

/** A target port in a pod: a number, or the name of a container's port. */
export function targetPort(target: number | string, pod: Pick<RunningPod, "containers">): number | undefined {
  if (typeof target === "number") return target;
  for (const { ports } of pod.containers) {
    const found = ports.find((port) => port.name === target);
    if (found) return found.containerPort;
  }
  return undefined;
}

/** A running pod as the API server would show it. What has a sidecar carries the label that says so. */
export function podObject(pod: RunningPod): object {
  const tls = pod.injected ? { "security.istio.io/tlsMode": "istio" } : {};
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: pod.name,
      namespace: pod.namespace,
      labels: { ...pod.labels, ...tls },
      annotations: pod.annotations,
    },
    spec: {
      serviceAccountName: pod.serviceAccount,
      nodeName: "node",
      containers: pod.containers.map(({ name, ports }) => ({ name, image: "lab", ports })),
    },
    status: {
      phase: "Running",
      podIP: pod.ip,
      podIPs: [{ ip: pod.ip }],
      conditions: [{ type: "Ready", status: pod.ready ? "True" : "False" }],
    },
  };
}
