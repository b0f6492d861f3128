import type { AdminAddress, Clock, Logger, Metrics } from "../base/index.ts";
import type { KubeAccess } from "../kube/index.ts";
import type { MeshSettings } from "../model/index.ts";
import type { Ip, SocketAddress } from "../values/index.ts";
import { defaultRevision, revisionNames } from "./cluster/names.ts";

/** What a control plane is given of the world around it. */
export interface ControlDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** Where a control plane finds what it needs and where it is found. Read once, at the start. */
export interface ControlConfig {
  readonly mesh: MeshSettings;
  /** Folders of manifests, watched. An object that stands in several is taken from the last of them. */
  readonly configDirs: readonly string[];
  /** The API server whose objects count as well; those of the folders go before them. */
  readonly kubernetes: KubernetesConfig | undefined;
  /** The folder of the four `cacerts` files. */
  readonly cacertsDir: string;
  /** A demo's certificates, known to whoever saw the demo, are taken only in a demo. */
  readonly demo: boolean;
  /** Discovery and certificates, over TLS. */
  readonly secure: SocketAddress;
  /** Discovery without TLS, for clients on this machine only; undefined for none. */
  readonly plaintext: SocketAddress | undefined;
  /** Public keys (JWKS or PEM) of whoever mints the tokens that workloads show for their first certificate. */
  readonly tokenKeysFile: string | undefined;
  readonly dns: { readonly listen: SocketAddress; readonly forwardTo: readonly SocketAddress[] } | undefined;
  readonly admin: AdminAddress;
  /** `GET /ready`, `/live` and `/metrics`, and nothing else; for whoever can reach it. Undefined for none. */
  readonly health: SocketAddress | undefined;
  /** Kubernetes' webhooks: what they listen on, and the file of the injector's settings. Undefined for none. */
  readonly webhooks: { readonly listen: SocketAddress; readonly injectionFile: string } | undefined;
  readonly workloadCertTtlMs: number | undefined;
  /** Addresses that the server certificate names beside the one it listens on. */
  readonly addresses: readonly Ip[];
}

export interface KubernetesConfig {
  readonly access: KubeAccess;
  /** What a program that gives credentials starts with. */
  readonly env: NodeJS.ProcessEnv;
  /** Of several control planes in one cluster: which one this is. `default` unless told otherwise. */
  readonly revision: string;
  /** Who this replica is among the replicas of its revision: the pod's name. */
  readonly me: string;
  /** Namespaces in which Secrets are read; undefined for all. */
  readonly secretNamespaces: readonly string[] | undefined;
  /** Whether this replica may become the one that writes into the cluster. */
  readonly writes: boolean;
}

/** Names under which workloads reach their control plane. */
export function serverNames(
  systemNamespace: string,
  clusterDomain: string,
  revision: string = defaultRevision,
): readonly string[] {
  const service = `${revisionNames(revision).service}.${systemNamespace}`;
  return [`${service}.svc`, `${service}.svc.${clusterDomain}`, service];
}
