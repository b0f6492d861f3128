import { createHash } from "node:crypto";
import { type FSWatcher, watch } from "node:fs";
import { Cell, type Clock, Failure, type Logger, type Scope, type Timer } from "../base/index.ts";
import { type Cacerts, cacertsFailure, checkCacerts, readCacertsFiles } from "./roots.ts";

export interface CacertsSource {
  /** The set in force: the last good one. */
  readonly current: Cell<Cacerts>;
  /** Why what is in the folder now is not in force; undefined when it is. */
  readonly problem: Cell<Failure | undefined>;
}

/** Quiet after a change before the folder is read: four files are not written in one instant. */
const quietMs = 300;
/** Looked at anyway this often: some file systems tell nothing. */
const lookMs = 30_000;
/** A CA that ends within this time is for someone to renew. */
const warnBeforeMs = 30 * 86_400_000;
/** How often the coming end is said. */
const warnEveryMs = 86_400_000;

/**
 * Loads a folder's set and keeps up with it. Throws `ca/cacerts-…` when the first one is unfit; a later one that is unfit
 * leaves the last good one in force and is reported, in the log and in `problem`.
 */
export async function startCacerts(
  deps: {
    readonly dir: string;
    readonly clock: Clock;
    readonly log: Logger;
    /** `loud`: a demo's set is used, and the log says so. */
    readonly demo: "refused" | "loud" | "allowed";
  },
  scope: Scope,
): Promise<CacertsSource> {
  const { dir, clock } = deps;
  const log = deps.log.child({ dir });
  const rules = () => ({
    nowMs: clock.now(),
    demo: deps.demo === "refused" ? ("refused" as const) : ("allowed" as const),
  });
  const readSet = async () => {
    const files = await readCacertsFiles(dir);
    const digest = createHash("sha256").update(JSON.stringify(files)).digest("hex");
    return { digest, checked: checkCacerts(files, rules()) };
  };

  const first = await readSet();
  if (!first.checked.ok) throw cacertsFailure(dir, first.checked.problems);
  const current = new Cell<Cacerts>(first.checked.cacerts);
  const problem = new Cell<Failure | undefined>(undefined);
  let inForce = first.digest;
  // A digest that was refused, so that the same refusal is said once.
  let refused: string | undefined;
  let warnedAt = Number.NEGATIVE_INFINITY;

  const announce = (cacerts: Cacerts) => {
    const fields = { certificate: cacerts.certificate.title, notAfter: new Date(cacerts.notAfter).toISOString() };
    log.info(fields, "CA files in force");
    if (cacerts.demo && deps.demo === "loud")
      log.warn(fields, "CA files are a demo's own: anyone who saw that demo can make certificates for this mesh");
  };
  const warnOfEnd = () => {
    const leftMs = current.value.notAfter - clock.now();
    if (leftMs > warnBeforeMs || clock.monotonic() - warnedAt < warnEveryMs) return;
    warnedAt = clock.monotonic();
    const fields = {
      certificate: current.value.certificate.title,
      notAfter: new Date(current.value.notAfter).toISOString(),
    };
    if (leftMs <= 0) log.error(fields, "CA certificate or its issuer has expired: no certificates are signed");
    else log.warn(fields, "CA certificate or its issuer ends soon");
  };

  const look = async () => {
    let found: Awaited<ReturnType<typeof readSet>>;
    try {
      found = await readSet();
    } catch (caught) {
      const failure = Failure.from(caught);
      if (problem.value?.message !== failure.message)
        log.warn({ err: failure }, "CA files could not be read, the last good ones stay in force");
      problem.set(failure);
      return;
    }
    if (scope.closed) return;
    if (found.digest === inForce) {
      problem.set(undefined);
    } else if (found.checked.ok) {
      inForce = found.digest;
      refused = undefined;
      problem.set(undefined);
      current.set(found.checked.cacerts);
      announce(found.checked.cacerts);
    } else {
      const failure = cacertsFailure(dir, found.checked.problems);
      if (refused !== found.digest)
        log.warn({ err: failure }, "new CA files refused, the last good ones stay in force");
      refused = found.digest;
      problem.set(failure);
    }
  };

  let timer: Timer | undefined;
  let looking = false;
  const plan = (ms: number) => {
    timer?.cancel();
    if (scope.closed) return;
    timer = clock.after(ms, () => void lookNow(), { background: true });
  };
  const lookNow = async () => {
    if (looking) return plan(quietMs);
    looking = true;
    await look();
    looking = false;
    warnOfEnd();
    plan(lookMs);
  };

  let watcher: FSWatcher | undefined;
  try {
    // The folder and not the files: Kubernetes swaps a link beside them.
    watcher = watch(dir, { persistent: false }, () => plan(quietMs));
    watcher.on("error", (err) => log.warn({ err }, "folder cannot be watched any more, it is looked at every 30 s"));
  } catch (err) {
    log.warn({ err }, "folder cannot be watched, it is looked at every 30 s");
  }
  scope.defer(() => {
    timer?.cancel();
    watcher?.close();
  });
  announce(current.value);
  warnOfEnd();
  plan(lookMs);
  return { current, problem };
}
