import { type ClientSecurity, startAdsClient } from "../../../ads/index.ts";
import { Cell, type Clock, type Failure, type Logger, type Scope } from "../../../base/index.ts";
import type { Node } from "../../../proto/gen/envoy/config/core/v3/base_pb.js";
import { typeUrls } from "../../../proto/index.ts";
import type { Names } from "../names.ts";

/** The names of the mesh for the resolver beside an Envoy, which itself has no use for them. */
export interface NamesClient {
  /** Whether any were told, be it that there are none. */
  readonly told: boolean;
  /** Why the control plane does not answer; undefined while it does. */
  readonly failure: Failure | undefined;
}

export function startNamesClient(
  options: {
    readonly target: string;
    readonly security: ClientSecurity;
    readonly node: () => Node;
    readonly names: Names;
  },
  deps: { readonly clock: Clock; readonly random: () => number; readonly log: Logger },
  scope: Scope,
): NamesClient {
  const { target, security, node, names } = options;
  const told = new Cell(false);
  const client = startAdsClient(
    {
      target,
      security,
      node,
      interests: new Map([[typeUrls.names, { all: true, names: new Set<string>() }]]),
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
  return {
    get told() {
      return told.value;
    },
    get failure() {
      const state = client.state.value;
      return state.phase === "waiting" ? state.failure : undefined;
    },
  };
}
