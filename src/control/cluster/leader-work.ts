import type { Receipts } from "../../ads/index.ts";
import { Cell, type Clock, type Logger, type Metrics, type Scope } from "../../base/index.ts";
import type { CacertsSource } from "../../ca/index.ts";
import { type KubeClient, type Leader, type Mandate, startLeader } from "../../kube/index.ts";
import type { Mesh } from "../../model/index.ts";
import type { ResourceStore } from "../../sources/index.ts";
import type { StatusLine } from "../status.ts";
import { Trouble } from "./duty.ts";
import { meshLease, ownLabels, revisionNames } from "./names.ts";
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
 * Contends for being the one replica of its revision that writes into the cluster, and writes what there is to write while
 * it is: what is the revision's own, and what the cluster has once where no other revision does. All the time it tells the
 * other replicas what proxies refuse here.
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
  const lease = { client, namespace: systemNamespace, labels: ownLabels, clock, random, log };
  const leader = startLeader(
    {
      ...lease,
      name: revisionNames(revision).lease,
      me,
      lead: (mandate) => {
        trouble.endWith(mandate.scope);
        keepWebhookBundles({ ...parts, mandate, trouble, log, roots });
        contendForMesh(mandate);
      },
    },
    scope,
  );

  /** Leaders of revisions among themselves. The revision is who holds it: whoever leads that next goes on at once. */
  function contendForMesh(own: Mandate): void {
    const lead = (mesh: Mandate) => {
      const mandate = { scope: mesh.scope, holds: () => own.holds() && mesh.holds() };
      const duty = { ...parts, mandate, trouble, log, roots };
      keepRootMaps(duty);
      board.tidy(duty);
      // Not before the others have been heard: what they say would be taken back, and written again.
      void board.heard.then(() => {
        if (!mandate.scope.closed) keepStatuses({ ...duty, elsewhere: board.elsewhere });
      });
    };
    const mesh = startLeader({ ...lease, name: meshLease, me: revision, lead }, own.scope);
    const where = `Lease ${systemNamespace}/${meshLease}`;
    own.scope.defer(mesh.problem.subscribe((failure) => trouble.outcome(where, failure)));
    // Before its last try to hold it has ended: what is written by it stops at once.
    own.scope.defer(() => mesh.release());
  }

  const leading = metrics.gauge(
    "isthmus_leader",
    "Whether this replica is the one that writes into the cluster, 1 or 0.",
  );
  leading.set(0);
  scope.defer(leader.state.subscribe(({ kind }) => leading.set(kind === "leading" ? 1 : 0)));
  return { leader, troubles: () => [...trouble.lines(), ...board.trouble.lines()] };
}
