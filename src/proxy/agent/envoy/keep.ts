import { createHash } from "node:crypto";
import type { JsonValue } from "@bufbuild/protobuf";
import { type Clock, Failure, type Logger, type Scope, sleep } from "../../../base/index.ts";
import { resourceBytes, type TypeUrl, typeUrls } from "../../../proto/index.ts";
import type { KeptConfiguration, KeptResource } from "../kept-state.ts";
import { askEnvoy } from "./ask-envoy.ts";
import type { EnvoyAdmin } from "./bootstrap.ts";
import { type EnvoyResource, resourcesIn } from "./dump.ts";

/** How often is looked whether Envoy was told something: at least so long, and fifty times as long as a look takes. */
const look = { leastMs: 2_000, factor: 50, mostMs: 60_000 };
/** What Envoy counts when it takes something. */
const counters = "/stats?usedonly&filter=(cds|lds|rds.*|eds|cluster.*)\\.update_success$";
/** What Envoy shows in the place of a key. */
const redacted = /\[redacted\]|W3JlZGFjdGVkXQ==/;
/** In the order in which each finds what it names. */
const kinds: ReadonlySet<string> = new Set([
  typeUrls.cluster,
  typeUrls.endpoints,
  typeUrls.listener,
  typeUrls.route,
] satisfies TypeUrl[]);

/**
 * Keeps what Envoy runs for the next start of this agent, some seconds after each change. Envoy is the one who knows what
 * it took: the control plane told it, not us.
 */
export function startKeeping(
  options: {
    readonly admin: EnvoyAdmin;
    readonly names: () => readonly KeptResource[];
    readonly keep: (read: () => Omit<KeptConfiguration, "savedMs"> | undefined) => void;
  },
  deps: { readonly clock: Clock; readonly log: Logger },
  scope: Scope,
): void {
  const { admin, names, keep } = options;
  const { clock, log } = deps;
  /** What was counted when it was last read, and what was kept then. */
  let seen: string | undefined;
  let kept: string | undefined;

  async function lookOnce(): Promise<void> {
    const { status, text } = await askEnvoy(admin, "GET", counters);
    if (status !== 200) return;
    const named = names();
    const now = `${text}${versionsOf(named)}`;
    if (now === seen) return;
    const dump = await askEnvoy(admin, "GET", "/config_dump?include_eds");
    if (dump.status !== 200) return;
    const resources = keptResources(resourcesIn(JSON.parse(dump.text) as JsonValue));
    // Half of a change is still to come: looked at again.
    if (!resources) return;
    seen = now;
    // A cluster of names counts each answer of DNS too, which changes nothing of what Envoy was told.
    const content = versionsOf([...resources, ...named]);
    if (content === kept) return;
    kept = content;
    const told = [typeUrls.cluster, typeUrls.listener, typeUrls.names];
    keep(() => ({ told, resources: [...resources, ...named] }));
  }

  async function run(): Promise<void> {
    let said: string | undefined;
    while (!scope.closed) {
      const began = clock.monotonic();
      try {
        await lookOnce();
        said = undefined;
      } catch (caught) {
        const failure = Failure.from(caught);
        // While Envoy is being started again there is nobody to ask; its own log tells of that.
        if (failure.message !== said && failure.code !== "envoy/admin")
          log.warn({ err: failure }, "what Envoy runs could not be kept");
        said = failure.message;
      }
      const took = clock.monotonic() - began;
      const restMs = Math.min(look.mostMs, Math.max(look.leastMs, look.factor * took));
      await sleep(clock, restMs, scope.signal).catch(() => {});
    }
  }
  // A look that is under way when the scope closes asks a program that is about to end: nothing waits for it.
  void run();
}

const versionsOf = (resources: readonly KeptResource[]) =>
  resources.map(({ type, name, version }) => `${type} ${name} ${version}`).join("\n");

/**
 * What of Envoy's dump another Envoy could begin with; undefined while something of it waits or no listener is there.
 * What has a key in it is left out: Envoy does not show it, and it has no place in a file.
 */
export function keptResources(dumped: readonly EnvoyResource[]): readonly KeptResource[] | undefined {
  const told = dumped.filter(({ type, state }) => kinds.has(type) && state !== "static" && state !== "draining");
  if (told.some(({ state }) => state === "warming") || !told.some(({ type }) => type === typeUrls.listener))
    return undefined;
  return told
    .filter(({ state, resource }) => state === "active" && !redacted.test(JSON.stringify(resource)))
    .map(({ type, name, resource }) => {
      const bytes = resourceBytes(type, resource);
      // Not the control plane's own version: what went through Envoy's words is told anew by whoever is asked next.
      const version = `kept-${createHash("sha256").update(bytes).digest("hex").slice(0, 16)}`;
      return { type: type as TypeUrl, name, version, bytes };
    });
}
