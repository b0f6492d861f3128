import type { Clock, Logger } from "../../../src/base/index.ts";
import type { KubeClient } from "../../../src/kube/index.ts";
import type { ValueSource } from "./environment.ts";
import type { ImageTable } from "./images.ts";
import type { PodObject } from "./pod-object.ts";
import type { PodPlaces } from "./pod-place.ts";
import type { Prober } from "./prober.ts";

/** What the pods of one cluster are made with. */
export interface NodeParts {
  readonly cluster: string;
  readonly nodeName: string;
  readonly hostIp: string;
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly table: ImageTable;
  /** This package's folder. */
  readonly root: string;
  readonly places: PodPlaces;
  readonly prober: Prober;
  /** ConfigMaps and Secrets of a namespace. */
  values(namespace: string): ValueSource;
  /** The folder for logs of a pod. */
  logFolder(pod: PodObject): string;
  /** An event about a pod, for `kubectl describe`. */
  record(pod: PodObject, type: "Normal" | "Warning", reason: string, message: string): void;
}
