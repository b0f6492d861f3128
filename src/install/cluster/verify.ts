import { isOurs, revisionNames } from "../names.ts";
import { stageNames } from "../render/manifest.ts";
import { type Manifest, nameOf } from "../render/object.ts";
import type { Settings } from "../settings/settings.ts";
import type { Facts } from "./checks.ts";
import { isTrusted } from "./facts.ts";
import { stagesFor } from "./install.ts";
import { isDeploymentReady } from "./rollout.ts";
import type { Target } from "./target.ts";

/** One object of an installation, and what is wrong with it. */
export interface Verified {
  readonly object: string;
  readonly problem: string | undefined;
}

/** Reads every object back, in the order in which they are applied. Writes nothing. */
export async function verifyInstallation(
  target: Target,
  settings: Settings,
  facts: Facts,
): Promise<readonly Verified[]> {
  const stages = stagesFor(settings, facts);
  const manifests = stageNames.flatMap((name) => stages[name]);
  return await Promise.all(
    manifests.map(async (manifest) => ({ object: nameOf(manifest), problem: await problemOf(target, manifest) })),
  );
}

async function problemOf({ api }: Target, manifest: Manifest): Promise<string | undefined> {
  const live = await api.get(manifest);
  if (!live) return "is not there";
  if (!isOurs(live)) return "is there, and somebody else's";
  if (live.metadata["deletionTimestamp"] !== undefined) return "is being deleted";
  if (manifest.kind === "Deployment" && !isDeploymentReady(live)) return "is not ready";
  if (manifest.kind.endsWith("WebhookConfiguration") && !isTrusted(live))
    return "has no root yet: the API server cannot call it";
  return undefined;
}

/** Where other clusters reach the ingress gateway. */
export type GatewayAddress =
  | { readonly kind: "address"; readonly address: string; readonly port: number }
  /** No load balancer: a node's address, with this port. */
  | { readonly kind: "node-port"; readonly port: number }
  | { readonly kind: "pending" }
  | { readonly kind: "none" };

interface ServiceState {
  readonly spec?: {
    readonly type?: string;
    readonly ports?: ReadonlyArray<{ readonly port: number; readonly nodePort?: number }>;
  };
  readonly status?: {
    readonly loadBalancer?: { readonly ingress?: ReadonlyArray<{ readonly ip?: string; readonly hostname?: string }> };
  };
}

export async function serviceAddress(
  { api }: Target,
  place: { readonly namespace: string; readonly name: string },
): Promise<GatewayAddress> {
  const found = (await api.get({ apiVersion: "v1", kind: "Service", metadata: place })) as ServiceState | undefined;
  if (!found) return { kind: "none" };
  const [first] = found.status?.loadBalancer?.ingress ?? [];
  const address = first?.ip ?? first?.hostname;
  if (address !== undefined) return { kind: "address", address, port: 15443 };
  const port = found.spec?.ports?.find((one) => one.port === 15443)?.nodePort;
  if (found.spec?.type === "NodePort" && port !== undefined) return { kind: "node-port", port };
  return found.spec?.type === "LoadBalancer" ? { kind: "pending" } : { kind: "none" };
}

/** Pods whose sidecar asks a revision's control plane, by namespace. */
export async function injectedPods(
  { api }: Target,
  revisions?: readonly string[],
): Promise<ReadonlyMap<string, readonly string[]>> {
  const found = new Map<string, string[]>();
  for (const pod of await api.list({ apiVersion: "v1", kind: "Pod" }, "istio.io/rev")) {
    const revision = (pod.metadata["labels"] as Readonly<Record<string, string>>)["istio.io/rev"] ?? "";
    if (isOurs(pod) || (revisions && !revisions.includes(revision)) || !hasProxy(pod["spec"])) continue;
    const { namespace = "", name } = pod.metadata;
    found.set(namespace, [...(found.get(namespace) ?? []), name]);
  }
  return found;
}

interface PodSpec {
  readonly containers?: ReadonlyArray<{ readonly name: string }>;
  readonly initContainers?: ReadonlyArray<{ readonly name: string }>;
}

function hasProxy(spec: unknown): boolean {
  const { containers = [], initContainers = [] } = (spec ?? {}) as PodSpec;
  return [...containers, ...initContainers].some(({ name }) => name === "istio-proxy");
}

export function controlPlaneName(revision: string): string {
  return revisionNames(revision).controlPlane;
}
