import type { MetricsSnapshot } from "../../base/index.ts";
import type { TypeUrl } from "../../proto/index.ts";
import type { Cidr, Ip, SocketAddress } from "../../values/index.ts";
import { certificateSecret, type Secrets, trustSecret } from "../config/secret.ts";
import type { ClusterView, ListenerView } from "../proxy.ts";

// What the two ends of a worker's channel say to each other. It is a socket pair between parent and child: what goes
// over it, keys included, touches no disk and no other process. Messages keep their order.

export interface ToldResource {
  readonly name: string;
  readonly version: string;
  readonly bytes: Uint8Array;
}

/** A secret without what cannot be copied from process to process. */
export type ToldSecret =
  | { readonly name: string; readonly kind: "certificate"; readonly chain: string; readonly key: string }
  | { readonly name: string; readonly kind: "trust"; readonly roots: string; readonly crl: string | undefined };

export interface WorkerSettings {
  /** Whether the kernel redirects connections to it, and knows where they meant to go. */
  readonly redirected: boolean;
  readonly captured: readonly Cidr[];
}

/** All that a worker begins with. */
export interface Begin {
  readonly kind: "begin";
  readonly worker: number;
  readonly settings: WorkerSettings;
  readonly secrets: readonly ToldSecret[];
  readonly resources: ReadonlyArray<ToldResource & { readonly type: TypeUrl }>;
  /** Secrets that configuration asks for and that the control plane has not. */
  readonly absent: readonly string[];
}

export type ToWorker =
  | Begin
  | {
      readonly kind: "resources";
      readonly type: TypeUrl;
      readonly updated: readonly ToldResource[];
      readonly removed: readonly string[];
    }
  | { readonly kind: "secrets"; readonly secrets: readonly ToldSecret[] }
  /** Comes with the handle, unless there is a code that says why it could not be had. */
  | { readonly kind: "bound"; readonly id: number; readonly code: string | undefined }
  | {
      readonly kind: "resolved";
      readonly id: number;
      readonly addresses: readonly Ip[];
      readonly ttlMs: number | undefined;
    }
  | { readonly kind: "unresolved"; readonly id: number; readonly code: string; readonly message: string }
  | { readonly kind: "report"; readonly id: number; readonly of: "metrics" | "views" }
  /** Take nothing new, finish what runs, end. */
  | { readonly kind: "stop" }
  /** The time to finish is over. */
  | { readonly kind: "cut" };

export type FromWorker =
  /** Where it listens by now; told again when that changes. */
  | { readonly kind: "listening"; readonly listeners: readonly ListenerView[] }
  | { readonly kind: "bind"; readonly id: number; readonly key: string; readonly address: SocketAddress }
  | { readonly kind: "released"; readonly key: string }
  /** Without a family it is a destination that a caller named. */
  | { readonly kind: "resolve"; readonly id: number; readonly host: string; readonly family: 4 | 6 | undefined }
  | { readonly kind: "metrics"; readonly id: number; readonly metrics: MetricsSnapshot }
  | {
      readonly kind: "views";
      readonly id: number;
      readonly listeners: readonly ListenerView[];
      readonly clusters: readonly ClusterView[];
    };

export function toldSecrets(secrets: Secrets): readonly ToldSecret[] {
  return [...secrets].map(([name, secret]) =>
    secret.kind === "certificate"
      ? { name, kind: secret.kind, chain: secret.chain, key: secret.key }
      : { name, kind: secret.kind, roots: secret.roots, crl: secret.crl },
  );
}

export function secretsFrom(told: readonly ToldSecret[]): Secrets {
  return new Map(
    told.map((secret) => [
      secret.name,
      secret.kind === "certificate"
        ? certificateSecret(secret.chain, secret.key)
        : trustSecret(secret.roots, secret.crl),
    ]),
  );
}
