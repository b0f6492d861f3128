import type { OuterPort } from "./router-rules.ts";
import type { ChosenMode } from "./types.ts";

/** A command as it is given to the operating system. */
export interface CommandLine {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Who a process of a pod runs as. `proxy` is not captured; `app` is. */
export type RunAs = "app" | "proxy";

/** One pod's place in the network. */
export interface PodNetwork {
  readonly ip: string;
  /** Its address between clusters; gateways only. */
  readonly wanIp: string | undefined;
  /** A command so that it runs in the pod's place. */
  enter(argv: readonly string[], runAs: RunAs, env: Readonly<Record<string, string>>): CommandLine;
  /** Whether something in the pod listens on a TCP port. */
  listens(port: number): Promise<boolean>;
  /** The process whose namespaces are the pod's, by its number inside the lab; undefined on loopback. */
  readonly holder: number | undefined;
  /** The kernel's side of a sidecar: from here on connections are captured. */
  capture(): Promise<void>;
  /** What the outside address of a gateway leads to, in place of what it led to before. */
  setOuterPorts(ports: readonly OuterPort[]): Promise<void>;
  close(): Promise<void>;
}

export interface PodNetworkOptions {
  readonly name: string;
  readonly namespace: string;
  /** A folder of the pod's own, for the files that it sees in place of the machine's. */
  readonly folder: string;
  readonly ip: string;
  readonly wanIp?: string;
  /** Address of the DNS that the pod asks. */
  readonly nameserver: string;
  readonly injected: boolean;
  readonly excludeInboundPorts: readonly number[];
  readonly excludeOutboundPorts: readonly number[];
}

/** One cluster's network: pods on a bridge, a router to the outside. */
export interface ClusterNetwork {
  addPod(options: PodNetworkOptions): Promise<PodNetwork>;
  /** Node ports and cluster addresses, as a node's own packet filter would serve them. */
  setForwards(forwards: Forwards): Promise<void>;
  /** A command so that it runs at the router, which is where the cluster meets the outside. */
  atRouter(argv: readonly string[]): readonly string[];
  readonly routerIp: string;
}

export interface Forwards {
  readonly nodePorts: readonly { readonly port: number; readonly to: string }[];
  readonly services: readonly {
    readonly ip: string;
    readonly port: number;
    readonly protocol: "tcp" | "udp";
    readonly to: readonly string[];
  }[];
}

export interface LabNetwork {
  readonly chosen: ChosenMode;
  addCluster(index: number, name: string): Promise<ClusterNetwork>;
}

/** The same in every cluster on purpose: pod networks may overlap, and a mesh that mixes them up shows at once. */
export const podCidr = "10.244.0.0/16";
export const serviceCidr = "10.96.0.0/16";
/**
 * Service addresses of the system's own gateways. Proxies themselves call these, so where a proxy's calls cannot be told
 * from its application's they are not captured.
 */
export const systemCidr = "10.96.0.0/24";
/** What names without an address resolve to. */
export const virtualCidr = "240.0.0.0/4";

/** Addresses of the cluster with this number, counted from 1. */
export function addressPlan(index: number) {
  return {
    router: "10.244.0.1",
    controlPlane: "10.244.0.2",
    node: `172.30.${index}.1`,
    gateway: `172.30.${index}.10`,
    egress: `172.30.${index}.11`,
    /** The first address that a pod gets is this number above the pods' range. */
    firstPod: 10,
  } as const;
}
