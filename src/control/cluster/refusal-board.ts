import type { Receipts } from "../../ads/index.ts";
import { Cell, type Clock, type Logger, type Scope } from "../../base/index.ts";
import { type Collection, type KubeClient, KubeRefusal, startReflector } from "../../kube/index.ts";
import { resourceKey } from "../../resources/index.ts";
import type { ResourceStore } from "../../sources/index.ts";
import { debounce } from "../debounce.ts";
import { type DutyDeps, Trouble } from "./duty.ts";
import { fieldManager, isOurs, ownLabels, refusalsMap } from "./names.ts";
import { type Board, boardStep, type Refusal, refusalsElsewhere, refusalsOf, writeRefusals } from "./refusals.ts";
import { startWriteQueue } from "./write-queue.ts";

/** After what proxies say: a rollout is one piece of news. */
const quietMs = 1_000;
const maxMs = 5_000;
/** A replica writes no more often than this: by then its watch has shown what it wrote before. */
const spacingMs = 5_000;
/** A replica that is not to be seen for so long is gone. */
const goneMs = 30_000;

/** What the replicas tell each other, of whatever revision they are. */
export interface RefusalBoard {
  /** What proxies of the other replicas refuse. */
  readonly elsewhere: Cell<readonly Refusal[]>;
  /** Resolves when the others have been heard for the first time, or cannot be. */
  readonly heard: Promise<void>;
  readonly trouble: Trouble;
  /** Takes away what replicas that are gone have left behind; for the one that writes. */
  tidy(duty: DutyDeps): void;
}

export interface RefusalBoardOptions {
  readonly client: KubeClient;
  readonly systemNamespace: string;
  /** The name of this replica's pod. One that is no pod there publishes nothing. */
  readonly me: string;
  readonly cluster: string;
  readonly store: Pick<ResourceStore, "view">;
  readonly receipts: Pick<Receipts, "all" | "subscribe">;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/**
 * Keeps what this replica's proxies refuse in one ConfigMap of the system namespace, under the pod's own name, and hears
 * what the others have there. While no proxy refuses anything nothing is written.
 */
export function startRefusalBoard(options: RefusalBoardOptions, scope: Scope): RefusalBoard {
  const { client, systemNamespace: namespace, me, cluster, store, receipts, clock, random, log } = options;
  const name = refusalsMap;
  const where = `ConfigMap ${namespace}/${name}`;
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const trouble = new Trouble(log);
  const elsewhere = new Cell<readonly Refusal[]>([]);
  const watchers = new Set<() => void>();
  let board: Board | undefined;
  let listed = false;
  let wroteAt: number | undefined;
  let hear = () => {};
  const heard = new Promise<void>((resolve) => (hear = resolve));

  const isThere = (pod: string): boolean => {
    const key = resourceKey({ cluster, kind: "Pod", namespace, name: pod });
    const { phase } = store.view.value.byKind.Pod.get(key)?.status ?? { phase: "Failed" };
    return phase !== "Failed" && phase !== "Succeeded";
  };
  const wanted = () => (isThere(me) ? writeRefusals(refusalsOf(receipts)) : "");

  const patch = (replica: string, text: string | null, signal: AbortSignal) =>
    client
      .json({
        method: "PATCH",
        path: `${path}/${name}`,
        query: { fieldManager },
        contentType: "application/merge-patch+json",
        body: { metadata: { labels: ownLabels }, data: { [replica]: text } },
        signal,
      })
      .catch(passOver);

  async function publish(): Promise<void> {
    if (!listed) return;
    const text = wanted();
    const step = boardStep(board, { me, wanted: text });
    if (step === "none") return;
    if (step === "foreign") {
      trouble.set(where, {
        severity: "warning",
        code: "control/foreign-object",
        message: `"${name}" is somebody else's (it has no label app.kubernetes.io/managed-by: isthmus) and is left as it is; what proxies of this replica refuse shows at objects only while it leads. Delete it, and it is made anew`,
      });
      return;
    }
    const sinceMs = wroteAt === undefined ? spacingMs : clock.monotonic() - wroteAt;
    if (sinceMs < spacingMs) {
      clock.after(spacingMs - sinceMs, () => queue.poke(me), { background: true });
      return;
    }
    wroteAt = clock.monotonic();
    if (step !== "create") await patch(me, step === "clear" ? null : text, scope.signal);
    else
      await client.json({
        method: "POST",
        path,
        query: { fieldManager },
        body: {
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: { name, namespace, labels: ownLabels },
          data: { [me]: text },
        },
        signal: scope.signal,
      });
  }

  const queue = startWriteQueue(
    {
      write: publish,
      holds: () => true,
      onOutcome: (_key, failure) => {
        if (failure || boardStep(board, { me, wanted: wanted() }) !== "foreign") trouble.outcome(where, failure);
      },
      perSecond: 1,
      clock,
      random,
      log,
    },
    scope,
  );
  const look = debounce(() => queue.poke(me), { quietMs, maxMs, clock });
  scope.defer(() => look.cancel());
  scope.defer(receipts.subscribe(() => look.poke()));

  let elsewhereText = "[]";
  const listen = () => {
    const now = refusalsElsewhere(board, { me, isThere });
    const text = JSON.stringify(now);
    if (text !== elsewhereText) {
      elsewhereText = text;
      elsewhere.set(now);
    }
    for (const notify of [...watchers]) notify();
  };
  let pods = store.view.value.byKind.Pod;
  let wasThere = isThere(me);
  scope.defer(
    store.view.subscribe(({ byKind }) => {
      if (byKind.Pod === pods) return;
      pods = byKind.Pod;
      if (board) listen();
      if (isThere(me) !== wasThere) look.poke();
      wasThere = isThere(me);
    }),
  );

  function tidy({ mandate, trouble: said, ...duty }: DutyDeps): void {
    const missing = new Map<string, number>();
    const isGone = (pod: string) => board?.ours === true && pod in board.data && !isThere(pod);
    const tidying = startWriteQueue(
      {
        write: async (pod) => {
          if (missing.has(pod) && isGone(pod)) await patch(pod, null, mandate.scope.signal);
          missing.delete(pod);
        },
        holds: mandate.holds,
        onOutcome: (_pod, failure) => said.outcome(where, failure),
        perSecond: 1,
        clock: duty.clock,
        random: duty.random,
        log: duty.log,
      },
      mandate.scope,
    );
    const note = () => {
      for (const pod of missing.keys()) if (!isGone(pod)) missing.delete(pod);
      for (const pod of Object.keys(board?.data ?? {})) {
        if (!isGone(pod) || missing.has(pod)) continue;
        const since = clock.monotonic();
        missing.set(pod, since);
        // One that came back meanwhile has another time, or none.
        const take = () => missing.get(pod) === since && tidying.poke(pod);
        clock.after(goneMs, take, { background: true });
      }
    };
    watchers.add(note);
    mandate.scope.defer(() => void watchers.delete(note));
    note();
  }

  const changed = (now: Board | undefined) => {
    board = now;
    listen();
    if (boardStep(board, { me, wanted: wanted() }) !== "none") look.poke();
  };
  const collection: Collection = { group: "", version: "v1", plural: "configmaps", kind: "ConfigMap", namespace };
  startReflector<Board>(
    {
      client,
      collection: { ...collection, only: name },
      read: ({ metadata, ...object }) => ({
        ours: isOurs(metadata),
        data: (object["data"] ?? {}) as Board["data"],
      }),
      sink: {
        listed(all) {
          listed = true;
          trouble.clear(`${where}, read`);
          changed([...all.values()][0]);
          hear();
        },
        changed(changes) {
          const last = changes.at(-1)!;
          changed(last.kind === "set" ? last.value : undefined);
        },
        health(health) {
          if (health.kind === "current") trouble.clear(`${where}, read`);
          else
            trouble.set(`${where}, read`, {
              severity: "warning",
              code: health.failure.code,
              message: `what proxies of other replicas refuse is not known: ${health.failure.message}`,
            });
          hear();
        },
      },
      clock,
      random,
    },
    scope,
  );
  return { elsewhere, heard, trouble, tidy };
}

/** Gone meanwhile: the watch tells, and then it is looked at again. */
function passOver(caught: unknown): void {
  if (!(caught instanceof KubeRefusal) || caught.status !== 404) throw caught;
}
