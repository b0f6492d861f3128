import type { Receipts } from "../../ads/index.ts";
import { Cell, type Clock, type Logger, type Metrics, type Scope } from "../../base/index.ts";
import type { CacertsSource } from "../../ca/index.ts";
import { type KubeClient, type Leader, startLeader } from "../../kube/index.ts";
import type { Mesh } from "../../model/index.ts";
import type { ResourceStore } from "../../sources/index.ts";
import type { StatusLine } from "../status.ts";
import { Trouble } from "./duty.ts";
import { ownLabels, revisionNames } from "./names.ts";
import type { ObjectBook } from "./object-book.ts";
import { startRefusalBoard } from "./refusal-board.ts";
import { keepRootMaps } from "./root-maps.ts";
import { keepStatuses } from "./status-writer.ts";
import { keepWebhookBundles } from "./webhook-bundles.ts";

export interface LeaderWork {
  readonly leader: Leader;
  /** What could not be written, or read for it. */
  troubles(): readonly StatusLine[];
}

/**
 * Contends for being the one replica that writes into the cluster, and writes what there is to write while it is. All the
 * time it tells the other replicas what proxies refuse here.
 */
export function startLeaderWork(
  parts: {
    readonly client: KubeClient;
    readonly systemNamespace: string;
    readonly cluster: string;
    readonly revision: string;
    readonly me: string;
    readonly store: ResourceStore;
    readonly book: ObjectBook;
    readonly mesh: Cell<Mesh>;
    readonly receipts: Receipts;
    readonly cacerts: CacertsSource;
    readonly clock: Clock;
    readonly random: () => number;
    readonly log: Logger;
    readonly metrics: Metrics;
  },
  scope: Scope,
): LeaderWork {
  const { client, systemNamespace, revision, me, cacerts, clock, random, metrics } = parts;
  const log = parts.log.child({ part: "leader" });
  const trouble = new Trouble(log);
  const roots = new Cell(cacerts.current.value.trust.pem);
  scope.defer(cacerts.current.subscribe(({ trust }) => roots.set(trust.pem)));
  const board = startRefusalBoard({ ...parts, log }, scope);
  const leader = startLeader(
    {
      client,
      namespace: systemNamespace,
      name: revisionNames(revision).lease,
      labels: ownLabels,
      me,
      lead: (mandate) => {
        trouble.endWith(mandate.scope);
        const duty = { ...parts, mandate, trouble, log, roots };
        keepRootMaps(duty);
        keepWebhookBundles(duty);
        board.tidy(duty);
        // Not before the others have been heard: what they say would be taken back, and written again.
        void board.heard.then(() => {
          if (!mandate.scope.closed) keepStatuses({ ...duty, elsewhere: board.elsewhere });
        });
      },
      clock,
      random,
      log,
    },
    scope,
  );
  const leading = metrics.gauge(
    "isthmus_leader",
    "Whether this replica is the one that writes into the cluster, 1 or 0.",
  );
  leading.set(0);
  scope.defer(leader.state.subscribe(({ kind }) => leading.set(kind === "leading" ? 1 : 0)));
  return { leader, troubles: () => [...trouble.lines(), ...board.trouble.lines()] };
}
