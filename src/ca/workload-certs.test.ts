import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { Cell, Failure, Metrics, Scope, silentLogger } from "../base/index.ts";
import { FakeClock } from "../testing/index.ts";
import { parseSpiffeId } from "../values/index.ts";
import { Authority } from "./authority.ts";
import type { FetchCertificate } from "./client.ts";
import { encodeCsr } from "./csr.ts";
import { makeKeyPair } from "./keys.ts";
import { createIntermediate, createRoot } from "./make-cacerts.ts";
import { type Cacerts, checkCacerts } from "./roots.ts";
import { startServerCertificate } from "./server-cert.ts";
import { decodeTrustBundle } from "./trust.ts";
import { type HeldCertificate, readHeldCertificate } from "./workload-certificate.ts";
import { type RenewalSettings, startWorkloadCerts } from "./workload-certs.ts";

const startMs = Date.UTC(2030, 0, 1);
const hourMs = 3_600_000;
const identity = parseSpiffeId("spiffe://cluster.local/ns/foo/sa/sleep")!;

/** The clock on the wall can be set; the other goes its way. */
class SettableClock extends FakeClock {
  #offset = 0;
  override now(): number {
    return super.now() + this.#offset;
  }
  set(byMs: number): void {
    this.#offset += byMs;
  }
}

function newSet(): Cacerts {
  const checked = checkCacerts(
    createIntermediate({ nowMs: startMs, issuer: createRoot({ nowMs: startMs }), cluster: "c" }),
    { nowMs: startMs, demo: "refused" },
  );
  if (!checked.ok) throw new Error("unfit");
  return checked.cacerts;
}

const oneSet = newSet();

function scene(
  settings: RenewalSettings = {},
  options: { readonly fetch?: (from: Authority) => FetchCertificate } = {},
) {
  const clock = new SettableClock(startMs);
  // The CA has a clock of its own, so that only the workload's is wrong when it is set.
  const caClock = {
    ...clock,
    now: () => startMs + clock.monotonic(),
    monotonic: () => clock.monotonic(),
    after: clock.after.bind(clock),
  };
  const cacerts = new Cell(oneSet);
  const authority = new Authority({ cacerts, clock: caClock, settings: { trustDomain: "cluster.local" } });
  const state = { asked: 0, away: false };
  const good: FetchCertificate = async (csr, { ttlMs }) => {
    state.asked++;
    if (state.away) throw new Failure("grpc/unavailable", "nobody there");
    return authority.sign(csr, identity, ttlMs);
  };
  const scope = new Scope();
  const deps = { clock, random: () => 0.5, log: silentLogger, metrics: new Metrics(), settings };
  const certs = startWorkloadCerts({ ...deps, fetch: options.fetch?.(authority) ?? good, expected: identity }, scope);
  return { clock, cacerts, authority, state, scope, certs, deps };
}

describe("a workload's certificate", () => {
  test("is renewed at half its life, with a new key each time", async () => {
    const { clock, certs, state } = scene();
    const first = await certs.ready();
    await clock.advanceAsync(11.9 * hourMs);
    expect(state.asked).toBe(1);
    await clock.advanceAsync(0.2 * hourMs);
    expect(state.asked).toBe(2);
    const second = certs.current.value!;
    expect(second.notAfter - first.notAfter).toBeGreaterThan(11 * hourMs);
    expect(second.privateKeyPem).not.toBe(first.privateKeyPem);
    expect(first.identity).toBe(identity);
  });

  test("of three seconds is renewed again and again, always in time", async () => {
    const { clock, certs, state } = scene({ ttlMs: 3000 });
    await certs.ready();
    for (let i = 0; i < 300; i++) {
      await clock.advanceAsync(100);
      expect(certs.current.value!.notAfter).toBeGreaterThan(clock.now());
    }
    expect(state.asked).toBeGreaterThanOrEqual(15);
    expect(state.asked).toBeLessThanOrEqual(25);
  });

  test("is served to its end and beyond while the CA is away, and tries come slower and slower", async () => {
    const { clock, certs, state } = scene({ ttlMs: hourMs });
    const first = await certs.ready();
    state.away = true;
    state.asked = 0;
    await clock.advanceAsync(0.55 * hourMs);
    expect(certs.problem.value?.code).toBe("grpc/unavailable");
    expect(certs.current.value).toBe(first);
    expect(state.asked).toBeGreaterThan(3);
    expect(state.asked).toBeLessThan(20);
    state.away = false;
    await clock.advanceAsync(60_000);
    expect(certs.problem.value).toBeUndefined();
    expect(certs.current.value).not.toBe(first);
  });

  test("is asked for again and again while there is none, and comes soon after the CA does", async () => {
    const { clock, certs, state } = scene();
    state.away = true;
    for (let i = 0; i < 20; i++) await clock.advanceAsync(100);
    expect(state.asked).toBeGreaterThanOrEqual(3);
    expect(certs.current.value).toBeUndefined();
    expect(certs.problem.value?.message).toBe("nobody there");
    state.away = false;
    await clock.advanceAsync(3000);
    expect(certs.current.value).toBeDefined();
  });

  for (const { it, byMs } of [
    { it: "31 days on", byMs: 31 * 24 * hourMs },
    { it: "a day back", byMs: -24 * hourMs },
  ]) {
    test(`is asked for at once when the clock is set ${it}, and not in a hot loop`, async () => {
      const { clock, certs, state } = scene();
      const first = await certs.ready();
      state.asked = 0;
      clock.set(byMs);
      await clock.advanceAsync(6000);
      expect(state.asked).toBeGreaterThanOrEqual(1);
      expect(certs.problem.value?.code).toBe("ca/clock-skew");
      await clock.advanceAsync(10 * 60_000);
      expect(state.asked).toBeLessThan(40);
      // Peers whose clocks are right believe the newest, so it is what is shown.
      expect(certs.current.value!.notAfter).toBeGreaterThanOrEqual(first.notAfter);
      clock.set(-byMs);
      await clock.advanceAsync(60_000);
      expect(certs.problem.value).toBeUndefined();
    });
  }

  test("is renewed at once after the machine slept", async () => {
    const { clock, certs, state } = scene({}, {});
    await certs.ready();
    state.asked = 0;
    // The wall clock went on by 13 hours, the timers did not.
    clock.set(13 * hourMs);
    await clock.advanceAsync(5100);
    expect(state.asked).toBe(1);
  });

  test("set an hour forward changes nothing yet", async () => {
    const { clock, certs, state } = scene();
    await certs.ready();
    state.asked = 0;
    clock.set(hourMs);
    await clock.advanceAsync(60_000);
    expect(state.asked).toBe(0);
  });

  const answers: ReadonlyArray<{ it: string; says: RegExp; fetch: (from: Authority) => FetchCertificate }> = [
    {
      it: "another key",
      says: /for another key/,
      fetch: (from) => async () => from.sign(encodeCsr(makeKeyPair("ec-p256").privateKey), identity),
    },
    {
      it: "another identity",
      says: /not for/,
      fetch: (from) => async (csr) => from.sign(csr, parseSpiffeId("spiffe://cluster.local/ns/foo/sa/other")!),
    },
    {
      it: "roots that it does not lead to",
      says: /no issuer|another root/,
      fetch: (from) => async (csr) => ({ ...from.sign(csr, identity), roots: newSet().trust.pem }),
    },
    {
      it: "no intermediate",
      says: /missing intermediate/,
      fetch: (from) => async (csr) => ({ ...from.sign(csr, identity), intermediates: [] }),
    },
    { it: "garbage", says: /refused/, fetch: () => async () => ({ certificate: "x", intermediates: [], roots: "y" }) },
  ];
  for (const { it, says, fetch } of answers) {
    test(`is not taken from an answer with ${it}`, async () => {
      const { clock, certs } = scene({}, { fetch });
      await clock.advanceAsync(50);
      expect(certs.current.value).toBeUndefined();
      expect(certs.problem.value).toMatchObject({ code: "ca/bad-answer" });
      expect(certs.problem.value?.message).toMatch(says);
    });
  }

  test("never shows its key in a dump", async () => {
    const { certs } = scene();
    const certificate = await certs.ready();
    const secret = certificate.privateKeyPem.split("\n")[1]!;
    for (const dump of [
      JSON.stringify(certs.current),
      JSON.stringify({ certificate }),
      inspect(certificate, { depth: 9, showHidden: true }),
      inspect(certs, { depth: 9 }),
      String(certificate),
    ])
      expect(dump).not.toContain(secret);
    expect(JSON.stringify(certificate)).toContain('"privateKeyPem":"…"');
  });

  test("is left alone once its scope is closed", async () => {
    const { clock, certs, scope, state } = scene();
    await certs.ready();
    await scope.close();
    await clock.advanceAsync(48 * hourMs);
    expect(state.asked).toBe(1);
    expect(clock.pending).toBe(0);
  });
});

describe("a certificate of an earlier run", () => {
  /** A first run's certificate as it would be kept, and how a second run begins with it. */
  async function earlier() {
    const first = scene();
    const certificate = await first.certs.ready();
    await first.scope.close();
    first.state.asked = 0;
    const { certChainPem, privateKeyPem, rootsPem } = certificate;
    const held: HeldCertificate = { certChainPem, privateKeyPem, rootsPem, sinceMs: startMs };
    const trust = decodeTrustBundle(rootsPem);
    const again = () => {
      const scope = new Scope();
      const fetch: FetchCertificate = async (csr, { ttlMs }) => {
        first.state.asked++;
        return first.authority.sign(csr, identity, ttlMs);
      };
      return {
        scope,
        certs: startWorkloadCerts(
          {
            ...first.deps,
            metrics: new Metrics(),
            fetch,
            expected: identity,
            initial: { certificate, sinceMs: startMs },
          },
          scope,
        ),
      };
    };
    return { ...first, certificate, held, trust, again };
  }

  test("is shown at once and renewed when it would have been, not sooner", async () => {
    const { clock, certificate, again, state } = await earlier();
    await clock.advanceAsync(5 * hourMs);
    const { certs, scope } = again();
    expect(certs.current.value).toBe(certificate);
    expect(await certs.ready()).toBe(certificate);
    await clock.advanceAsync(6.9 * hourMs);
    expect(state.asked).toBe(0);
    await clock.advanceAsync(0.2 * hourMs);
    expect(state.asked).toBe(1);
    expect(certs.current.value!.serial).not.toBe(certificate.serial);
    await scope.close();
    expect(clock.pending).toBe(0);
  });

  test("whose renewal is overdue is renewed at once, and shown until then", async () => {
    const { clock, certificate, again, state } = await earlier();
    await clock.advanceAsync(20 * hourMs);
    const { certs, scope } = again();
    expect(certs.current.value).toBe(certificate);
    await clock.advanceAsync(1000);
    expect(state.asked).toBe(1);
    await scope.close();
  });

  test("that has ended, or is not valid yet, is ignored", async () => {
    for (const byMs of [25 * hourMs, -2 * hourMs]) {
      const { clock, again, state } = await earlier();
      clock.set(byMs);
      const { certs, scope } = again();
      expect(certs.current.value).toBeUndefined();
      await clock.advanceAsync(10);
      expect(state.asked).toBe(1);
      await scope.close();
    }
  });

  test("is read back with its key", async () => {
    const { held, trust, certificate } = await earlier();
    const read = readHeldCertificate(held, { expected: identity, nowMs: startMs + hourMs, trust });
    expect(read).toMatchObject({ ok: true, certificate: { serial: certificate.serial, identity } });
    if (read.ok) expect(read.certificate.privateKeyPem).toBe(certificate.privateKeyPem);
  });

  const other = makeKeyPair("ec-p256").privateKey.export({ format: "pem", type: "pkcs8" }) as string;
  const refused: ReadonlyArray<{
    it: string;
    says: RegExp;
    held?: Partial<HeldCertificate>;
    rules?: Partial<Parameters<typeof readHeldCertificate>[1]>;
  }> = [
    { it: "with another's key", says: /another key/, held: { privateKeyPem: other } },
    { it: "with no key", says: /does not load/, held: { privateKeyPem: "" } },
    { it: "that is none", says: /./, held: { certChainPem: "nothing" } },
    { it: "with no roots", says: /./, held: { rootsPem: "" } },
    {
      it: "of somebody else",
      says: /not for/,
      rules: { expected: parseSpiffeId("spiffe://cluster.local/ns/foo/sa/other")! },
    },
    { it: "that has ended", says: /expired/, rules: { nowMs: startMs + 25 * hourMs } },
    { it: "that ends in five seconds", says: /ends in 5 s/, rules: { nowMs: startMs + 24 * hourMs - 5_000 } },
    { it: "of the future", says: /not valid before/, rules: { nowMs: startMs - 2 * hourMs } },
    { it: "of a root that the mesh has no more", says: /root is another/, rules: { trust: newSet().trust } },
  ];
  for (const { it, says, held: change, rules } of refused) {
    test(`${it} is not used`, async () => {
      const { held, trust } = await earlier();
      const read = readHeldCertificate(
        { ...held, ...change },
        { expected: identity, nowMs: startMs + hourMs, trust, ...rules },
      );
      expect(read).toMatchObject({ ok: false, reason: expect.stringMatching(says) });
      if (!read.ok) expect(read.reason).not.toContain(held.privateKeyPem.split("\n")[1]);
    });
  }
});

describe("the control plane's own certificate", () => {
  test("has its names, and is renewed at once when the CA files change", async () => {
    const { clock, cacerts, authority, deps } = scene();
    const scope = new Scope();
    const certs = startServerCertificate(
      { ...deps, authority, identity, dnsNames: ["isthmus.isthmus-system.svc"], ips: [] },
      scope,
    );
    const first = await certs.ready();
    const next = newSet();
    cacerts.set(next);
    await clock.advanceAsync(1000);
    expect(certs.current.value).not.toBe(first);
    expect(certs.current.value!.rootsPem).toBe(next.trust.pem);
    await scope.close();
  });
});
