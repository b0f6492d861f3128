/**
 * How pods are kept apart. `netns`: network namespaces as root, capture by owner. `userns`: the same inside a user
 * namespace, without root. `explicit`: loopback and explicit proxying, anywhere.
 */
export type LabMode = "netns" | "userns" | "explicit";
export const labModes: readonly LabMode[] = ["netns", "userns", "explicit"];

/** The mode that was taken, and why in a sentence for the first line of output. */
export interface ChosenMode {
  readonly mode: LabMode;
  readonly reason: string;
}

/**
 * Which proxy stands in the pods of a cluster; `mixed` alternates, beginning with the embedded one, `mixed-reversed`
 * beginning with Envoy.
 */
export type DataPlane = "embedded" | "envoy" | "mixed" | "mixed-reversed";
export const dataPlanes: readonly DataPlane[] = ["embedded", "envoy", "mixed", "mixed-reversed"];

/** News while a lab comes up, in the order in which a person wants to read it. */
export type LabProgress =
  | ({ readonly kind: "mode" } & ChosenMode)
  /** Tools that the mode needs are missing, and root has them installed. */
  | {
      readonly kind: "installing";
      readonly mode: LabMode;
      readonly missing: readonly string[];
      readonly packages: readonly string[];
    }
  | { readonly kind: "step"; readonly text: string; readonly cluster?: string }
  /** Not ready yet; told again when something else is. */
  | { readonly kind: "waiting"; readonly text: string }
  | { readonly kind: "warning"; readonly text: string; readonly cluster?: string };

/** One cluster of a lab. Folders of manifests are read at the start and watched. */
export interface LabCluster {
  readonly name: string;
  readonly folders: readonly string[];
  /** Also an egress gateway, whose requested network view is `external`. */
  readonly egressGateway?: boolean;
}

export interface LabUpOptions {
  readonly name: string;
  readonly clusters: readonly LabCluster[];
  /** Forces a mode; chosen by what the machine allows when absent. */
  readonly mode?: LabMode;
  /** The embedded proxy when absent. */
  readonly dataPlane?: DataPlane;
  /** The Envoy to run; found as `isthmus agent` does when absent. */
  readonly envoy?: string;
  /** Workers of each proxy whose pod says nothing of it; 0 for one a core. One of the embedded proxy, two of Envoy. */
  readonly concurrency?: number;
  /** Life of workload certificates as the control plane takes it: `24h`, `10s`. */
  readonly workloadCertTtl?: string;
  readonly logLevel?: "error" | "warn" | "info" | "debug";
  /**
   * `tied`: the lab ends when this process does, in whatever way. `detached`: it stays until `labDown`. Either way it
   * goes when this process ends before the lab is up.
   */
  readonly life?: "tied" | "detached";
  readonly onProgress?: (progress: LabProgress) => void;
  /** Aborting it while the lab comes up takes everything down again. */
  readonly signal?: AbortSignal;
}

export type PodPhase = "Pending" | "Running" | "CrashLoopBackOff" | "ErrImageNeverPull" | "Terminating";

export interface PodStatus {
  readonly namespace: string;
  readonly name: string;
  /** The Deployment it belongs to; its own name when it stands alone. */
  readonly workload: string;
  readonly ip: string;
  /** Where it can be reached from other clusters: gateways only. */
  readonly wanIp?: string;
  readonly phase: PodPhase;
  readonly ready: boolean;
  readonly injected: boolean;
  readonly restarts: number;
  /** Why it is not ready, in words; absent when it is. */
  readonly message?: string;
}

export interface ClusterStatus {
  readonly name: string;
  readonly ready: boolean;
  /** The ingress gateway as others reach it: address, host name, node address and node port of 15443. */
  readonly gateway: {
    readonly address: string;
    readonly hostname: string;
    readonly nodeAddress: string;
    readonly nodePort: number;
  };
  readonly controlPlane: ControlPlaneStatus;
  readonly pods: readonly PodStatus[];
  /** What is wrong in manifests or what the control plane complains about, one line each. */
  readonly problems: readonly string[];
}

export interface ControlPlaneStatus {
  /** Where proxies find it. */
  readonly address: string;
  /** Path of its admin socket. */
  readonly admin: string;
  readonly ready: boolean;
  readonly restarts: number;
  /** Why it is not ready, in words; absent when it is. */
  readonly message?: string;
}

export interface LabStatus {
  readonly name: string;
  readonly mode: LabMode;
  readonly reason: string;
  readonly stateFolder: string;
  readonly phase: "starting" | "up" | "stopping";
  readonly clusters: readonly ClusterStatus[];
}

/** Which container of which pod. `workload` is a Deployment's or a pod's name, or a cluster's own `ingressgateway`. */
export interface LabTarget {
  readonly lab: string;
  readonly cluster: string;
  readonly workload: string;
  /** Any namespace when absent; refused when the name is in more than one. */
  readonly namespace?: string;
  readonly container?: string;
}
