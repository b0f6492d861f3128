import { type Clock, sleep } from "../../base/index.ts";
import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import { parseCorefile } from "./corefile.ts";
import { type ReloadState, reloadHash, reloadState } from "./loaded.ts";
import { metricsOf } from "./metrics.ts";
import { configOf, type Target } from "./targets.ts";
import { compareVersions } from "./version.ts";

/** Whether the DNS runs what its ConfigMap says, as far as that can be known from outside of the cluster. */
export type Loading =
  /** Each pod that could be asked says so. */
  | { readonly kind: "loaded"; readonly pods: number }
  | { readonly kind: "refused"; readonly pod: string; readonly failures: number }
  /** Some pods have it not yet. */
  | { readonly kind: "waiting"; readonly loaded: number; readonly pods: number }
  /** It reads its file at the start alone. */
  | { readonly kind: "restart"; readonly why: string }
  | { readonly kind: "unknown"; readonly why: string };

/** Pods by name, before something is written: what they had loaded, and how often loading had failed. */
export type Baseline = ReadonlyMap<string, ReloadState>;

export async function baseline(
  api: ObjectApi,
  target: Target,
  configMaps: ReadonlyMap<string, KubeObject>,
): Promise<Baseline> {
  if (target.kind === "stub-domains") return new Map();
  const { main = "" } = configOf(target, configMaps);
  const answers = await metricsOf(api, target.workload, { corefile: main });
  return new Map(answers.flatMap((one) => (one.kind === "read" ? [[one.pod, reloadState(one.text)] as const] : [])));
}

/** One look. `before` tells a refusal of now from one of long ago. */
export async function lookAt(
  api: ObjectApi,
  target: Target,
  configMaps: ReadonlyMap<string, KubeObject>,
  before: Baseline,
): Promise<Loading> {
  if (target.kind === "stub-domains") {
    return { kind: "unknown", why: "kube-dns and the node's cache read it anew by themselves, and do not say when" };
  }
  const { main = "", importer } = configOf(target, configMaps);
  const restart = needsRestart(target, main);
  if (restart !== undefined) return { kind: "restart", why: restart };
  if (target.whose === "node-local")
    return { kind: "unknown", why: "the node's cache makes a Corefile of its own of it" };
  if (target.version && compareVersions(target.version, [1, 7, 0]) < 0) {
    return { kind: "unknown", why: "a CoreDNS before 1.7.0 does not say what it loaded" };
  }
  const answers = await metricsOf(api, target.workload, { corefile: main });
  const read = answers.flatMap((one) => (one.kind === "read" ? [one] : []));
  const failed = answers.find((one) => one.kind === "failed");
  if (read.length === 0) {
    const why = failed?.kind === "failed" ? failed.failure.message : "it has no running pod";
    return { kind: "unknown", why: `no pod of it could be asked: ${why}` };
  }
  let loaded = 0;
  for (const { pod, text } of read) {
    const now = reloadState(text);
    const known = before.get(pod);
    if (!now.hashes.some(({ name, value }) => reloadHash(main, importer, name) === value)) continue;
    // The hash is of what it tried last, whether that went well or not.
    if (known && now.failures > known.failures) return { kind: "refused", pod, failures: now.failures };
    if (!known && now.failures > 0) {
      return {
        kind: "unknown",
        why: `pod ${pod} tried just this, and ${now.failures} reloads failed since it started: see its log`,
      };
    }
    loaded++;
  }
  const hashes = read.flatMap(({ text }) => reloadState(text).hashes);
  if (reloadHash(main, importer, "md5") === undefined) {
    return { kind: "unknown", why: "the Corefile refers to the pod's environment" };
  }
  if (loaded === read.length) return { kind: "loaded", pods: loaded };
  if (hashes.length === 0 && before.size === 0) {
    return { kind: "unknown", why: "none of its pods loaded a change since it started" };
  }
  return { kind: "waiting", loaded, pods: read.length };
}

/** Looks until it is loaded, refused, or known to stay unknown; for `ms` at most. */
export async function waitLoaded(
  look: () => Promise<Loading>,
  wait: { readonly clock: Clock; readonly ms: number; readonly tell?: (loading: Loading) => void },
): Promise<Loading> {
  const until = wait.clock.monotonic() + wait.ms;
  for (;;) {
    const loading = await look();
    if (loading.kind !== "waiting" || wait.clock.monotonic() >= until) return loading;
    wait.tell?.(loading);
    await sleep(wait.clock, pauseMs);
  }
}

const pauseMs = 2_000;

function needsRestart(target: Exclude<Target, { kind: "stub-domains" }>, main: string): string | undefined {
  const { corefile, mounts } = target.workload;
  if (mounts.some(({ configMap, fixed }) => fixed && configMap === corefile?.configMap)) {
    return "its Corefile is mounted by subPath, which Kubernetes does not renew";
  }
  const parsed = parseCorefile(main);
  const reloads =
    parsed.ok && parsed.corefile.blocks.some(({ directives }) => directives.some(({ name }) => name.text === "reload"));
  if (!reloads) return "its Corefile has no `reload`";
  const old = target.version && compareVersions(target.version, [1, 7, 0]) < 0;
  return target.kind === "server-file" && old ? "a CoreDNS before 1.7.0 does not look at imported files" : undefined;
}
