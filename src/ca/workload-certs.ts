import {
  type BackoffOptions,
  backoffMs,
  Cell,
  type Clock,
  Failure,
  type Logger,
  type Metrics,
  type Scope,
  type Timer,
  until,
} from "../base/index.ts";
import type { SpiffeId } from "../values/index.ts";
import type { CertificateAnswer, FetchCertificate } from "./client.ts";
import { encodeCsr } from "./csr.ts";
import { type KeyPair, type KeyType, makeKeyPairInBackground } from "./keys.ts";
import { checkWorkloadCertificate, lifeOf, type WorkloadCertificate } from "./workload-certificate.ts";

export interface WorkloadCerts {
  /**
   * The newest certificate; undefined until the first one came. One that has ended stays, because peers judge it by their
   * own clocks and say so, while `problem` tells why there is no newer one.
   */
  readonly current: Cell<WorkloadCertificate | undefined>;
  /** Why the last try failed; undefined after one that did not. */
  readonly problem: Cell<Failure | undefined>;
  /** The first certificate, or the signal's reason. */
  ready(signal?: AbortSignal): Promise<WorkloadCertificate>;
  /** Renews at once, as when the CA has changed. */
  renew(): void;
}

export interface RenewalSettings {
  /** Lifetime to ask for; the CA's default when left out. */
  readonly ttlMs?: number;
  readonly keyType?: KeyType;
  /** Renews after this part of the lifetime; one half. */
  readonly renewAt?: number;
  /** Give or take this part of the lifetime, so that those who started together do not renew together; a tenth. */
  readonly jitter?: number;
  /** After a failure: from 200 ms to 30 s, and never longer than a tenth of what the certificate had to live. */
  readonly backoff?: BackoffOptions;
}

/** The clock on the wall is looked at this often: a suspended machine, or one whose clock was set, tells nobody. */
const lookMs = 5_000;
/** Never more than one renewal in this time, whatever clocks and lifetimes say. */
const fastestMs = 250;

type Outcome = "renewed" | "failed";

/**
 * Keeps one certificate fresh. The key is made here for each certificate and leaves only towards TLS. Returns at once; the
 * first certificate comes when the CA answers (`ready`). `expected` refuses an answer for anybody else. `initial` is one of an
 * earlier run, checked already (`readHeldCertificate`), and when it came: it is renewed when it would have been; one that
 * has ended is ignored.
 */
export function startWorkloadCerts(
  deps: {
    readonly fetch: FetchCertificate;
    readonly clock: Clock;
    readonly random: () => number;
    readonly log: Logger;
    readonly metrics: Metrics;
    readonly expected?: SpiffeId;
    readonly initial?: { readonly certificate: WorkloadCertificate; readonly sinceMs: number };
    readonly settings?: RenewalSettings;
  },
  scope: Scope,
): WorkloadCerts {
  const { clock, random, log, settings = {} } = deps;
  const { renewAt = 0.5, jitter = 0.1, keyType = "ec-p256", backoff = { firstMs: 200, maxMs: 30_000 } } = settings;
  const current = new Cell<WorkloadCertificate | undefined>(undefined);
  const problem = new Cell<Failure | undefined>(undefined);
  const renewals = deps.metrics.counter("isthmus_certificate_renewals_total", "Tries to renew the own certificate.", [
    "outcome",
  ]);
  const expiry = deps.metrics.gauge("isthmus_certificate_expiry_seconds", "End of the own certificate, Unix time.");

  /**
   * When to renew, on both clocks: the one on the wall goes on while the machine sleeps and is what certificates go by, the
   * other cannot be set back. Whichever comes first counts.
   */
  let due = { wall: clock.now(), monotonic: clock.monotonic() };
  const dueIn = (ms: number) => {
    due = { wall: clock.now() + ms, monotonic: clock.monotonic() + ms };
  };
  /** What the certificate had to live when it came. */
  let lifetimeMs = Number.POSITIVE_INFINITY;
  let failures = 0;
  let startedAt = Number.NEGATIVE_INFINITY;
  let running = false;
  let again = false;
  let timer: Timer | undefined;
  let lastSeen = { wall: clock.now(), monotonic: clock.monotonic() };

  const plan = () => {
    timer?.cancel();
    if (scope.closed) return;
    const waitMs = Math.min(lookMs, due.wall - clock.now(), due.monotonic - clock.monotonic());
    // Until there is a first certificate, it is what the process waits for.
    timer = clock.after(Math.max(0, waitMs), look, { background: current.value !== undefined });
  };

  const look = () => {
    const seen = { wall: clock.now(), monotonic: clock.monotonic() };
    const jumpMs = seen.wall - lastSeen.wall - (seen.monotonic - lastSeen.monotonic);
    lastSeen = seen;
    const shown = current.value;
    // Set back so far that the certificate is not valid yet, or that its end seems further off than it ever was.
    const setBack =
      shown !== undefined && (seen.wall < shown.notBefore || shown.notAfter - seen.wall > lifetimeMs + 60_000);
    if (Math.abs(jumpMs) > 60_000) log.warn({ jumpMs: Math.round(jumpMs) }, "clock was set, or the machine slept");
    const isDue = seen.wall >= due.wall || seen.monotonic >= due.monotonic;
    if (!running && (isDue || (setBack && failures === 0))) void renewNow();
    else plan();
  };

  const renewNow = async () => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    again = false;
    timer?.cancel();
    startedAt = clock.monotonic();
    let outcome: Outcome;
    try {
      const keys = await makeKeyPairInBackground(keyType);
      const wish = deps.expected === undefined ? [] : [{ kind: "uri", value: deps.expected } as const];
      const csr = encodeCsr(keys.privateKey, wish);
      const answer = await deps.fetch(csr, { ttlMs: settings.ttlMs, signal: scope.signal });
      if (scope.closed) return;
      take(readAnswer(answer, { keys, expected: deps.expected }));
      outcome = "renewed";
    } catch (caught) {
      if (scope.closed) return;
      outcome = "failed";
      fail(Failure.from(caught));
    } finally {
      running = false;
    }
    renewals.inc({ outcome });
    if (again) dueIn(0);
    // Measured on the clock that nobody sets, so that no jump makes a loop of it.
    const restMs = startedAt + fastestMs - clock.monotonic();
    if (restMs > Math.min(due.wall - clock.now(), due.monotonic - clock.monotonic())) dueIn(restMs);
    plan();
  };

  const take = (fresh: WorkloadCertificate) => {
    const nowMs = clock.now();
    const leftMs = fresh.notAfter - nowMs;
    if (leftMs <= 0 || nowMs < fresh.notBefore) {
      // Peers whose clocks are right will believe it, so it is better than an older one.
      if ((current.value?.notAfter ?? 0) < fresh.notAfter) publish(fresh);
      throw new Failure(
        "ca/clock-skew",
        `the CA's new certificate is valid from ${new Date(fresh.notBefore).toISOString()} to ${new Date(fresh.notAfter).toISOString()}, and here it is ${new Date(nowMs).toISOString()}`,
        { hint: "set the clocks of this machine and of the control plane right" },
      );
    }
    lifetimeMs = leftMs;
    failures = 0;
    dueIn(leftMs * renewalPart());
    publish(fresh);
    problem.set(undefined);
    const { identity, serial, notAfter } = fresh;
    log.info({ identity, serial, notAfter: new Date(notAfter).toISOString() }, "certificate renewed");
  };

  const renewalPart = () => Math.min(0.95, Math.max(0.05, renewAt + jitter * (2 * random() - 1)));

  /** Goes on with a certificate as if it had come in this run. */
  const resume = ({ certificate, sinceMs }: NonNullable<typeof deps.initial>) => {
    lifetimeMs = lifeOf(certificate, sinceMs);
    dueIn(Math.max(0, certificate.notAfter - lifetimeMs * (1 - renewalPart()) - clock.now()));
    publish(certificate);
    plan();
  };

  const publish = (fresh: WorkloadCertificate) => {
    expiry.set(fresh.notAfter / 1000);
    current.set(fresh);
  };

  const fail = (failure: Failure) => {
    failures++;
    // A certificate of seconds cannot wait half a minute for the next try.
    const longest = Math.max(backoff.firstMs, Math.min(backoff.maxMs, lifetimeMs / 10));
    const waitMs = backoffMs(failures, { ...backoff, maxMs: longest }, random);
    dueIn(waitMs);
    problem.set(failure);
    const ended = current.value !== undefined && clock.now() >= current.value.notAfter;
    const fields = { err: failure, failures, againMs: waitMs };
    if (ended) log.error(fields, "certificate has ended and could not be renewed");
    else log.warn(fields, "certificate could not be renewed");
  };

  scope.defer(() => timer?.cancel());
  const { initial } = deps;
  const held = initial?.certificate;
  if (held && held.notBefore <= clock.now() && clock.now() < held.notAfter) resume(initial);
  else void renewNow();
  return {
    current,
    problem,
    async ready(signal) {
      const waits = signal ? AbortSignal.any([signal, scope.signal]) : scope.signal;
      return (await until(current, (value) => value !== undefined, waits))!;
    },
    renew() {
      void renewNow();
    },
  };
}

/** The answer, checked before anything is built on it: our key, our name, a chain to the roots that came along. */
function readAnswer(
  answer: CertificateAnswer,
  { keys, expected }: { readonly keys: KeyPair; readonly expected: SpiffeId | undefined },
): WorkloadCertificate {
  const newline = (pem: string) => (pem.endsWith("\n") ? pem : `${pem}\n`);
  const checked = checkWorkloadCertificate(
    {
      certChainPem: [answer.certificate, ...answer.intermediates].map(newline).join(""),
      rootsPem: newline(answer.roots),
      privateKey: keys.privateKey,
    },
    { expected },
  );
  if (!checked.ok) throw new Failure("ca/bad-answer", `CA's answer refused: ${checked.reason}`);
  return checked.certificate;
}
