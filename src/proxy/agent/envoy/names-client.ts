import { type ClientSecurity, startAdsClient } from "../../../ads/index.ts";
import { Cell, type Clock, type Failure, type Logger, type Scope } from "../../../base/index.ts";
import type { Node } from "../../../proto/gen/envoy/config/core/v3/base_pb.js";
import { typeUrls } from "../../../proto/index.ts";
import type { KeptResource } from "../kept-state.ts";
import type { Names } from "../names.ts";

/** The names of the mesh for the resolver beside an Envoy, which itself has no use for them. */
export interface NamesClient {
  /** Whether any were told, be it that there are none. */
  readonly told: boolean;
  /** Why the control plane does not answer; undefined while it does. */
  readonly failure: Failure | undefined;
  /** Whether the control plane answers. */
  readonly connected: Cell<boolean>;
}

export function startNamesClient(
  options: {
    readonly target: string;
    readonly security: ClientSecurity;
    readonly node: () => Node;
    readonly names: Names;
    /** From an earlier run; undefined when there was none. */
    readonly kept: readonly KeptResource[] | undefined;
  },
  deps: { readonly clock: Clock; readonly random: () => number; readonly log: Logger },
  scope: Scope,
): NamesClient {
  const { target, security, node, names, kept } = options;
  const told = new Cell(kept !== undefined);
  if (kept) names.apply(kept, []);
  const client = startAdsClient(
    {
      target,
      security,
      node,
      interests: new Map([[typeUrls.names, { all: true, names: new Set<string>() }]]),
      held: new Map([[typeUrls.names, new Map((kept ?? []).map(({ name, version }) => [name, version]))]]),
      apply({ updated, removed }) {
        const refusals = names.apply(updated, removed);
        told.set(true);
        return refusals;
      },
      clock: deps.clock,
      random: deps.random,
      log: deps.log.child({ part: "ads" }),
    },
    scope,
  );
  const connected = new Cell(false);
  scope.defer(client.state.subscribe(({ phase }) => connected.set(phase === "connected")));
  return {
    connected,
    get told() {
      return told.value;
    },
    get failure() {
      const state = client.state.value;
      return state.phase === "waiting" ? state.failure : undefined;
    },
  };
}
