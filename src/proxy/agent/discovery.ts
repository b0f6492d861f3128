import { type AdsClient, type ClientSecurity, startAdsClient } from "../../ads/index.ts";
import type { Clock, Failure, Logger, Metrics, Scope } from "../../base/index.ts";
import type { Node } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { type TypeUrl, typeUrls } from "../../proto/index.ts";
import type { ConfigStore } from "../config/store.ts";
import type { KeptConfiguration, KeptResource } from "./kept-state.ts";
import type { Names } from "./names.ts";

/** What the control plane told: configuration for the store, names for the resolver; begun again where it was left. */
export interface Discovery {
  /** Types of which anything was told, be it that there is none. */
  readonly told: ReadonlySet<TypeUrl>;
  /** Why the control plane does not answer; undefined while it does, and while it is asked. */
  readonly failure: Failure | undefined;
  /** Begins to ask. */
  start(security: ClientSecurity): void;
}

export interface DiscoveryDeps {
  readonly target: string;
  readonly node: () => Node;
  readonly store: ConfigStore;
  readonly names: Names;
  /** From an earlier run. */
  readonly kept: KeptConfiguration | undefined;
  /** Told after each change, with how to read all that is held by then; nothing while half of a change is to come. */
  readonly onChange: (read: () => Omit<KeptConfiguration, "savedMs"> | undefined) => void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** Short names of types, for metrics. */
const labels = Object.fromEntries(Object.entries(typeUrls).map(([label, type]) => [type, label])) as Readonly<
  Record<TypeUrl, keyof typeof typeUrls>
>;

/** Order in which kept resources are put in force, so that each finds what it names. */
const kinds = [typeUrls.cluster, typeUrls.endpoints, typeUrls.listener, typeUrls.route, typeUrls.names] as const;

/** Types of which everything is told, be it nothing; before that there is nothing to begin with. */
const wholeTypes = [typeUrls.cluster, typeUrls.listener, typeUrls.names] as const;

/** Puts what was kept in force before it returns; asks nobody until it is started. */
export function prepareDiscovery(deps: DiscoveryDeps, scope: Scope): Discovery {
  const { store, names, log, metrics, clock } = deps;
  const told = new Set<TypeUrl>();
  const connected = metrics.gauge("isthmus_ads_connected", "Whether the control plane answers, 1 or 0.");
  const losses = metrics.counter("isthmus_ads_disconnects_total", "Tries to reach the control plane that ended.");
  const received = metrics.counter(
    "isthmus_ads_resources_total",
    "Resources that the control plane told of: taken, refused (NACK), or removed.",
    ["type", "outcome"],
  );
  connected.set(0);
  let client: AdsClient | undefined;

  /** What one change brings. Returns what was not taken, and why. */
  function take(type: TypeUrl, updated: readonly KeptResource[], removed: readonly string[]) {
    const refusals =
      type === typeUrls.names
        ? names.apply(updated, removed)
        : store.apply(type, updated, removed).map(({ name, message }) => ({ name, reason: message }));
    return refusals;
  }
  /** Who begins with a listener that waits for its routes would wait for a control plane that is away. */
  const toKeep = () => {
    const resources = held();
    const whole = wholeTypes.every((type) => told.has(type)) && store.dump().every(({ state }) => state === "active");
    return whole ? { told: [...told], resources } : undefined;
  };
  const held = (): readonly KeptResource[] => [
    ...store.dump(),
    ...names.dump().map((received) => ({ type: typeUrls.names, ...received })),
  ];

  if (deps.kept) {
    const { kept } = deps;
    for (const kind of kinds) {
      const resources = kept.resources.filter(({ type }) => type === kind);
      // What this version of the proxy does not take any more is asked for anew, like what was never held.
      if (resources.length > 0) take(kind, resources, []);
    }
    for (const type of kept.told) told.add(type);
    const ageSeconds = Math.round((clock.now() - kept.savedMs) / 1000);
    log.info({ resources: kept.resources.length, ageSeconds }, "going on with the kept configuration");
  }

  function start(security: ClientSecurity): void {
    const byName = (wanted: ReadonlySet<string>) => ({ all: false, names: wanted });
    const everything = { all: true, names: new Set<string>() };
    const started = startAdsClient(
      {
        target: deps.target,
        security,
        node: deps.node,
        interests: new Map<TypeUrl, { all: boolean; names: ReadonlySet<string> }>([
          [typeUrls.cluster, everything],
          [typeUrls.listener, everything],
          [typeUrls.names, everything],
          [typeUrls.endpoints, byName(store.wanted.value.endpoints)],
          [typeUrls.route, byName(store.wanted.value.routes)],
          [typeUrls.secret, byName(store.wanted.value.secrets)],
        ]),
        held: versionsOf(held()),
        apply({ typeUrl, updated, removed }) {
          const refusals = take(
            typeUrl,
            updated.map((one) => ({ type: typeUrl, ...one })),
            removed,
          );
          const type = labels[typeUrl];
          received.inc({ type, outcome: "taken" }, updated.length - refusals.length);
          received.inc({ type, outcome: "refused" }, refusals.length);
          received.inc({ type, outcome: "removed" }, removed.length);
          started.want(typeUrls.endpoints, byName(store.wanted.value.endpoints));
          started.want(typeUrls.route, byName(store.wanted.value.routes));
          started.want(typeUrls.secret, byName(store.wanted.value.secrets));
          const news = updated.length > 0 || removed.length > 0 || !told.has(typeUrl);
          told.add(typeUrl);
          if (news) deps.onChange(toKeep);
          return refusals;
        },
        clock,
        random: deps.random,
        log: log.child({ part: "ads" }),
      },
      scope,
    );
    client = started;
    // What waited for its routes or endpoints may be in force without a change from outside.
    scope.defer(store.active.subscribe(() => deps.onChange(toKeep)));
    scope.defer(
      started.state.subscribe(({ phase }) => {
        connected.set(phase === "connected" ? 1 : 0);
        if (phase === "waiting") losses.inc();
      }),
    );
  }

  return {
    told,
    get failure() {
      const state = client?.state.value;
      return state?.phase === "waiting" ? state.failure : undefined;
    },
    start,
  };
}

function versionsOf(resources: readonly KeptResource[]): ReadonlyMap<TypeUrl, ReadonlyMap<string, string>> {
  const versions = new Map<TypeUrl, Map<string, string>>();
  for (const { type, name, version } of resources) {
    const ofType = versions.get(type) ?? new Map<string, string>();
    versions.set(type, ofType.set(name, version));
  }
  return versions;
}
