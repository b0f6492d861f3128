import type { Clock, Logger } from "../base/index.ts";
import type { LoopbackGateway, LoopbackPorts } from "./loopback.ts";
import type { ClusterNetwork } from "./network.ts";
import type { LabCluster, LabMode } from "./types.ts";
import type { Variables } from "./variables.ts";

/** What one cluster of a lab is made of. */
export interface ClusterParts {
  readonly cluster: LabCluster;
  /** From 1: decides its addresses between clusters. */
  readonly index: number;
  readonly mode: LabMode;
  readonly network: ClusterNetwork;
  readonly folder: string;
  readonly logs: string;
  readonly podsFolder: string;
  readonly sockets: string;
  readonly cacerts: string;
  readonly rootCert: string;
  readonly tokensJwks: string;
  /** A token for one service account of this cluster. */
  readonly mintToken: (namespace: string, serviceAccount: string) => Promise<string>;
  readonly variables: Variables;
  /** Names that the outside's DNS knows: a file of JSON, name to address. */
  readonly outsideNames: string;
  /** The Envoy that stands in its pods; the embedded proxy when undefined. */
  readonly envoy: string | undefined;
  /** Workers of each proxy whose pod says nothing of it. */
  readonly concurrency: number | undefined;
  readonly workloadCertTtl: string | undefined;
  readonly logLevel: string;
  readonly nextSocket: () => string;
  /** On loopback: the ports of the gateways, known to all clusters before any starts; undefined elsewhere. */
  readonly loopback: { readonly ports: LoopbackPorts; readonly gateways: readonly LoopbackGateway[] } | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** What programs that are the lab's own get of its environment. */
export function programEnv(): Readonly<Record<string, string>> {
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: "/" };
}
