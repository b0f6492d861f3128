import type { Clock } from "../../base/index.ts";
import type { ObjectApi } from "../../kube/index.ts";

/** One cluster in which something is to be installed, looked at or removed. */
export interface Target {
  /** As the caller names it: the kubeconfig's context. */
  readonly context: string;
  /** As the context calls its cluster; empty when it has no name. */
  readonly clusterName: string;
  readonly api: ObjectApi;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** What is told of work on a cluster while it goes on. */
export type Progress =
  /** Replaced by the next one. */
  | { readonly kind: "waiting"; readonly text: string }
  | { readonly kind: "done"; readonly text: string }
  | { readonly kind: "failed"; readonly text: string }
  /** To be known, and no failure. */
  | { readonly kind: "note"; readonly text: string };

export type Tell = (progress: Progress) => void;
