import type { Scope } from "../../../src/base/index.ts";
import type { TestNetwork } from "./network.ts";

export interface TestNodesOptions {
  readonly network: TestNetwork;
  /** A kubeconfig whose context of the cluster's name is an administrator's. */
  readonly kubeconfig: string;
  /** For logs of containers and of the nodes: `<folder>/<cluster>/<namespace>/<pod>/<container>.<restarts>.log`, `<folder>/nodes.log`. */
  readonly folder: string;
  /** Programs for images by their names without registry and tag, before the table of the lab: `{ "coredns/coredns": ["/path/coredns"] }`. */
  readonly images?: Readonly<Record<string, readonly string[]>>;
  /** The Envoy that is on the path of containers of image `…/isthmus:…-envoy`. */
  readonly envoy?: string;
}

export interface TestNodes {
  /** Sends a signal to a container's process, as a crash would. */
  signal(target: {
    cluster: string;
    namespace: string;
    pod: string;
    container: string;
    signal: NodeJS.Signals;
  }): Promise<void>;
}

/** The nodes of all clusters in one process; resolves when each is registered and its rules are in force. */
export declare function startTestNodes(options: TestNodesOptions, scope: Scope): Promise<TestNodes>;
