import type { Receipts } from "../../ads/index.ts";
import { type Cell, explain, type Logger } from "../../base/index.ts";
import { KubeRefusal } from "../../kube/index.ts";
import { automaticAddresses, type Mesh } from "../../model/index.ts";
import { kinds, resourceKey } from "../../resources/index.ts";
import type { ResourceStore } from "../../sources/index.ts";
import { debounce } from "../debounce.ts";
import { type GivenAddress, givenAddresses, nextAddresses } from "./addresses.ts";
import { changedComplaints, complaintsOf } from "./complaints.ts";
import { type Complaint, nextConditions, verdictsOf } from "./conditions.ts";
import type { DutyDeps } from "./duty.ts";
import { fieldManager } from "./names.ts";
import type { BookedObject, ObjectBook } from "./object-book.ts";
import { merged, type Refusal, refusalsOf } from "./refusals.ts";
import { startWriteQueue } from "./write-queue.ts";

/** After a change of the mesh, and after what proxies say: not each step of a rollout is news. */
const quietMs = 500;
const maxMs = 5_000;
/** What was written and is not there is not written again sooner: a server, or somebody, does not keep it. */
const againMs = 60_000;

/**
 * Writes what is so into the status of objects: whether they are accepted and told to proxies, and the addresses that
 * entries were given. Only what differs is written, and each write is conditional on the version that it was made from.
 */
export function keepStatuses(
  deps: DutyDeps & {
    readonly book: ObjectBook;
    readonly store: ResourceStore;
    readonly mesh: Cell<Mesh>;
    readonly receipts: Receipts;
    /** What proxies of other replicas refuse. */
    readonly elsewhere: Cell<readonly Refusal[]>;
  },
): void {
  const { client, mandate, book, store, mesh, receipts, elsewhere, trouble, clock, random, log } = deps;
  const { scope } = mandate;
  let complaints: ReadonlyMap<string, readonly Complaint[]> = new Map();
  let automatic = automaticAddresses(mesh.value);
  const written = new Map<string, { readonly text: string; readonly atMs: number }>();

  async function write(key: string): Promise<void> {
    const object = book.get(key);
    if (!object) written.delete(key);
    if (!object || object.ending) return;
    const version = book.statusVersion(object.kind);
    if (version === undefined) return;
    const status = nextStatus(object, {
      complaints: complaints.get(key) ?? [],
      addresses: addressesFor(object),
      wallMs: clock.now(),
    });
    if (!status) {
      written.delete(key);
      return;
    }
    // The moment of a change does not make it another status.
    const text = JSON.stringify([object.generation, status], (name, value) =>
      name === "lastTransitionTime" ? undefined : value,
    );
    const last = written.get(key);
    const sinceMs = clock.monotonic() - (last?.atMs ?? 0);
    if (last?.text === text && sinceMs < againMs) {
      clock.after(againMs - sinceMs, () => queue.poke(key), { background: true });
      return;
    }
    const { group, plural } = kinds[object.kind];
    await client.json({
      method: "PATCH",
      path: `/apis/${group}/${version}/namespaces/${object.namespace}/${plural}/${object.name}/status`,
      query: { fieldManager },
      contentType: "application/merge-patch+json",
      body: { metadata: { resourceVersion: object.resourceVersion }, status },
      signal: scope.signal,
    });
    written.set(key, { text, atMs: clock.monotonic() });
  }

  function addressesFor({ kind, namespace, name }: BookedObject): readonly GivenAddress[] | undefined {
    if (kind !== "ServiceEntry") return undefined;
    const { cluster } = mesh.value.settings;
    const entry = store.view.value.byKind.ServiceEntry.get(resourceKey({ cluster, kind, namespace, name }));
    return entry?.origin.file === undefined ? entry && givenAddresses(entry, automatic) : undefined;
  }

  const queue = startWriteQueue(
    {
      write: (key) => write(key).catch((caught: unknown) => passOver(caught, log)),
      holds: mandate.holds,
      // Thousands that cannot be written are one trouble: that statuses cannot be written.
      onOutcome: (_key, failure) => trouble.outcome("status of objects", failure),
      perSecond: 50,
      clock,
      random,
      log,
    },
    scope,
  );

  const look = debounce(
    () => {
      const now = complaintsOf({
        problems: store.view.value.problems,
        findings: mesh.value.findings,
        refusals: merged([...refusalsOf(receipts), ...elsewhere.value]),
      });
      const changed = changedComplaints(complaints, now);
      complaints = now;
      for (const key of changed) queue.poke(key);
      const given = automaticAddresses(mesh.value);
      if (given === automatic) return;
      automatic = given;
      for (const key of book.keys()) if (key.startsWith("ServiceEntry ")) queue.poke(key);
    },
    { quietMs, maxMs, clock },
  );
  scope.defer(() => look.cancel());
  scope.defer(mesh.subscribe(() => look.poke()));
  scope.defer(store.view.subscribe(() => look.poke()));
  scope.defer(receipts.subscribe(() => look.poke()));
  scope.defer(elsewhere.subscribe(() => look.poke()));
  // An object that has just come is judged with the mesh that it becomes part of, not with the one before.
  const fresh = new Set<string>();
  const lookAtFresh = debounce(
    () => {
      look.flush();
      for (const key of fresh) queue.poke(key);
      fresh.clear();
    },
    { quietMs, maxMs, clock },
  );
  scope.defer(() => lookAtFresh.cancel());
  scope.defer(
    book.subscribe((key) => {
      fresh.add(key);
      lookAtFresh.poke();
    }),
  );
  for (const key of book.keys()) fresh.add(key);
  look.poke();
  lookAtFresh.poke();
}

/** The fields to write, or undefined when all say already what they should. */
export function nextStatus(
  object: BookedObject,
  wanted: {
    readonly complaints: readonly Complaint[];
    /** Of an entry, what each of its hosts was given by the mesh; undefined for what is given none, or not known. */
    readonly addresses: readonly GivenAddress[] | undefined;
    readonly wallMs: number;
  },
): Readonly<Record<string, unknown>> | undefined {
  const { generation } = object;
  const conditions = nextConditions(object.conditions, {
    verdicts: verdictsOf(wanted.complaints),
    generation,
    wallMs: wanted.wallMs,
  });
  const addresses = wanted.addresses && nextAddresses(object.addresses, wanted.addresses);
  if (!conditions && addresses === undefined) return undefined;
  return {
    ...(conditions ? { conditions, ...(generation === undefined ? {} : { observedGeneration: generation }) } : {}),
    ...(addresses === undefined ? {} : { addresses: addresses.length > 0 ? addresses : null }),
  };
}

/** An object that changed or went meanwhile tells of itself in the watch; then it is looked at again. */
function passOver(caught: unknown, log: Logger): void {
  if (!(caught instanceof KubeRefusal) || (caught.status !== 409 && caught.status !== 404)) throw caught;
  log.debug({ why: explain(caught) }, "a status was not written: the object has changed");
}
