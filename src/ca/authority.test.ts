import { describe, expect, test } from "vitest";
import { Cell } from "../base/index.ts";
import { FakeClock } from "../testing/index.ts";
import { parseSpiffeId } from "../values/index.ts";
import { Authority, type AuthoritySettings } from "./authority.ts";
import { decodeCertificates } from "./certificate.ts";
import { encodeCsr } from "./csr.ts";
import { makeKeyPair } from "./keys.ts";
import { createIntermediate, createRoot } from "./make-cacerts.ts";
import { type Cacerts, checkCacerts } from "./roots.ts";
import { verifyPeer } from "./trust.ts";

const startMs = Date.UTC(2030, 0, 1);
const hourMs = 3_600_000;
const identity = parseSpiffeId("spiffe://cluster.local/ns/foo/sa/sleep")!;

function scene(settings: Partial<AuthoritySettings> = {}, caLivesMs?: number) {
  const issuer = createRoot({ nowMs: startMs });
  const files = createIntermediate({
    nowMs: startMs,
    issuer,
    cluster: "cluster1",
    ...(caLivesMs === undefined ? {} : { validForMs: caLivesMs }),
  });
  const checked = checkCacerts(files, { nowMs: startMs, demo: "refused" });
  if (!checked.ok) throw new Error("unfit");
  const clock = new FakeClock(startMs);
  const cacerts = new Cell<Cacerts>(checked.cacerts);
  return {
    clock,
    cacerts,
    authority: new Authority({ cacerts, clock, settings: { trustDomain: "cluster.local", ...settings } }),
  };
}

const csr = encodeCsr(makeKeyPair("ec-p256").privateKey);

describe("the authority", () => {
  test("gives a caller its own identity, whatever the request asks for", () => {
    const { authority } = scene();
    const greedy = encodeCsr(makeKeyPair("ec-p256").privateKey, [
      { kind: "uri", value: "spiffe://cluster.local/ns/istio-system/sa/admin" },
      { kind: "dns", value: "isthmus.isthmus-system.svc" },
    ]);
    const [leaf] = decodeCertificates(authority.sign(greedy, identity).certificate);
    expect(leaf).toMatchObject({ names: [{ kind: "uri", value: identity }], isCa: false, subjectParts: [] });
  });

  const lives = [
    { it: "no wish", wish: undefined, lives: 24 * hourMs },
    { it: "a wish of zero", wish: 0, lives: 24 * hourMs },
    { it: "a wish below zero", wish: -5, lives: 24 * hourMs },
    { it: "a wish of an hour", wish: hourMs, lives: hourMs },
    { it: "a wish of ten years", wish: 87_600 * hourMs, lives: 90 * 24 * hourMs },
    { it: "a wish of a millisecond", wish: 1, lives: 1000 },
  ];
  for (const { it, wish, lives: expected } of lives) {
    test(`signs for ${expected} ms on ${it}`, () =>
      expect(scene().authority.sign(csr, identity, wish).notAfter - startMs).toBe(expected));
  }

  test("signs for less than a minimum never, and for a default of seconds when told", () => {
    expect(scene({ minTtlMs: 60_000 }).authority.sign(csr, identity, 1).notAfter - startMs).toBe(60_000);
    expect(scene({ defaultTtlMs: 3000 }).authority.sign(csr, identity).notAfter - startMs).toBe(3000);
  });

  test("never signs beyond its own end, and not at all after it", () => {
    const { authority, clock } = scene({}, 2 * hourMs);
    clock.advance(hourMs);
    expect(authority.sign(csr, identity).notAfter).toBe(startMs + 2 * hourMs);
    clock.advance(hourMs);
    expect(() => authority.sign(csr, identity)).toThrow(/not now/);
  });

  test("back-dates by an hour, so that a peer whose clock is behind believes it", () => {
    const { authority, cacerts } = scene();
    const issued = authority.sign(csr, identity);
    const shown = [issued.certificate, ...issued.intermediates].flatMap(decodeCertificates).map(({ der }) => der);
    const at = (nowMs: number) => verifyPeer(shown, cacerts.value.trust, { nowMs, role: "client" });
    expect(at(startMs - hourMs)).toEqual({ ok: true, identity });
    expect(at(startMs - hourMs - 1)).toMatchObject({ ok: false, problem: "not-yet-valid" });
    expect(at(startMs + 25 * hourMs)).toMatchObject({ ok: false, problem: "expired" });
  });

  test("gives identities of a foreign trust domain nothing", () => {
    expect(() => scene().authority.sign(csr, parseSpiffeId("spiffe://other/ns/foo/sa/sleep")!)).toThrow(
      /trust domain "other"/,
    );
  });

  test("signs with the set in force", () => {
    const { authority, cacerts } = scene();
    const before = authority.sign(csr, identity);
    cacerts.set(scene().cacerts.value);
    const after = authority.sign(csr, identity);
    expect(after.roots).not.toBe(before.roots);
    expect(after.intermediates).not.toEqual(before.intermediates);
  });

  test("sends no intermediate when a root signs by itself", () => {
    const checked = checkCacerts(createRoot({ nowMs: startMs }), { nowMs: startMs, demo: "refused" });
    if (!checked.ok) throw new Error("unfit");
    const authority = new Authority({
      cacerts: new Cell(checked.cacerts),
      clock: new FakeClock(startMs),
      settings: { trustDomain: "cluster.local" },
    });
    expect(authority.sign(csr, identity).intermediates).toEqual([]);
  });
});
