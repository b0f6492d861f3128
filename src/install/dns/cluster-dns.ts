import { Failure } from "../../base/index.ts";
import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import { type Ip, parseIp } from "../../values/index.ts";
import { dnsService } from "../names.ts";
import type { ConfigData } from "./imports.ts";
import { buildVersion } from "./loaded.ts";
import { metricsOf } from "./metrics.ts";
import { parseVersion, type Version } from "./version.ts";
import { readWorkload, type Workload } from "./workload.ts";

/** The DNS that a cluster's pods ask. */
export interface ClusterDns {
  readonly workload: Workload;
  /** Of CoreDNS; undefined when neither its image nor itself says so. */
  readonly version: Version | undefined;
  /** A cache on each node, which answers before it. */
  readonly nodeLocal: Workload | undefined;
  /** Addresses that pods ask. */
  readonly ips: readonly Ip[];
  readonly configMaps: ReadonlyMap<string, KubeObject>;
}

export const dnsNamespace = "kube-system";
const dnsLabel = "k8s-app=kube-dns";
const nodeLocalLabels = ["k8s-app=node-local-dns", "k8s-app=nodelocaldns"];

/** Reads from the running cluster what its DNS is. Throws `clusterdns/none` when nothing of it is known here. */
export async function findClusterDns(api: ObjectApi): Promise<ClusterDns> {
  const [dns, nodeLocal, services] = await Promise.all([
    workloads(api, [dnsLabel]),
    workloads(api, nodeLocalLabels),
    api.list({ apiVersion: "v1", kind: "Service", namespace: dnsNamespace }, dnsLabel),
  ]);
  const candidates = dns.filter(({ program }) => program !== "node-cache");
  const workload = candidates.find(({ program }) => program === "coredns") ?? candidates[0];
  if (!workload) throw noDns();
  const cache = [...nodeLocal, ...dns].find(({ program }) => program === "node-cache");
  const wanted = new Set([workload, cache].flatMap((one) => (one ? one.mounts.map(({ configMap }) => configMap) : [])));
  wanted.add("kube-dns");
  const read = await Promise.all([...wanted].map(async (name) => [name, await configMap(api, name)] as const));
  return {
    workload,
    version: workload.version ?? (workload.program === "coredns" ? await askedVersion(api, workload) : undefined),
    nodeLocal: cache,
    ips: services.flatMap(addressesOf),
    configMaps: new Map(read.flatMap(([name, object]) => (object ? [[name, object] as const] : []))),
  };
}

async function workloads(api: ObjectApi, labels: readonly string[]): Promise<readonly Workload[]> {
  const lists = await Promise.all(
    labels.flatMap((label) =>
      ["Deployment", "DaemonSet"].map((kind) =>
        api.list({ apiVersion: "apps/v1", kind, namespace: dnsNamespace }, label),
      ),
    ),
  );
  return lists.flat().flatMap((object) => {
    const replicas = (object["spec"] as { replicas?: number } | undefined)?.replicas;
    // Scaled to nothing, it answers nobody: some managed clusters keep the other DNS so.
    return replicas === 0 ? [] : (readWorkload(object) ?? []);
  });
}

export async function configMap(
  api: ObjectApi,
  name: string,
  namespace = dnsNamespace,
): Promise<KubeObject | undefined> {
  return await api.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace } });
}

export function dataOf(object: KubeObject | undefined): Readonly<Record<string, string>> {
  return (object?.["data"] ?? {}) as Readonly<Record<string, string>>;
}

export function configData(configMaps: ReadonlyMap<string, KubeObject>): ConfigData {
  return new Map([...configMaps].map(([name, object]) => [name, dataOf(object)]));
}

/** A CoreDNS whose image has no version for a tag says it in its metrics. */
async function askedVersion(api: ObjectApi, workload: Workload): Promise<Version | undefined> {
  const [first] = await metricsOf(api, workload, { most: 1 });
  const version = first?.kind === "read" ? buildVersion(first.text) : undefined;
  return version === undefined ? undefined : parseVersion(version);
}

function noDns(): Failure {
  return new Failure(
    "clusterdns/none",
    `no Deployment or DaemonSet labelled ${dnsLabel} in ${dnsNamespace} runs CoreDNS or kube-dns`,
    { hint: "another DNS is to forward the domain to the address of the Service isthmus-dns, port 53, UDP and TCP" },
  );
}

/** The mesh's own DNS as a Service of the cluster. */
export interface MeshDns {
  readonly ips: readonly Ip[];
  readonly ready: number;
  readonly endpoints: number;
}

/** Undefined when there is no such Service. Throws `clusterdns/no-address` for one that has none. */
export async function findMeshDns(api: ObjectApi, namespace: string): Promise<MeshDns | undefined> {
  const metadata = { name: dnsService, namespace };
  const service = await api.get({ apiVersion: "v1", kind: "Service", metadata });
  if (!service) return undefined;
  const ips = addressesOf(service);
  if (ips.length === 0) {
    throw new Failure("clusterdns/no-address", `the Service ${namespace}/${dnsService} has no cluster IP`, {
      hint: "a headless Service cannot be forwarded to: give it one, or name addresses with --ip",
    });
  }
  const slices = await api.list(
    { apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice", namespace },
    `kubernetes.io/service-name=${dnsService}`,
  );
  const endpoints = slices.flatMap((slice) => (slice["endpoints"] ?? []) as readonly Endpoint[]);
  return {
    ips,
    endpoints: endpoints.length,
    ready: endpoints.filter(({ conditions }) => conditions?.ready !== false).length,
  };
}

interface Endpoint {
  readonly conditions?: { readonly ready?: boolean };
}

function addressesOf(service: KubeObject): readonly Ip[] {
  const { clusterIPs, clusterIP } = (service["spec"] ?? {}) as { clusterIPs?: readonly string[]; clusterIP?: string };
  return (clusterIPs ?? [clusterIP ?? ""]).flatMap((text) => parseIp(text) ?? []);
}
