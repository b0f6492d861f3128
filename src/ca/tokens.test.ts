import { createHmac, createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeClock, scratchDir } from "../testing/index.ts";
import { createCallers } from "./callers.ts";
import { createTokenVerifier, decodeTokenKeys, jwksOf, makeTokenKey, mintToken, startTokenVerifier } from "./tokens.ts";

const nowMs = Date.UTC(2030, 0, 1);
const key = makeTokenKey("k1");
const stranger = makeTokenKey("k1");
const claims = { namespace: "foo", serviceAccount: "sleep", ttlMs: 600_000, nowMs };
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const rsaPem = rsa.publicKey.export({ format: "pem", type: "spki" }) as string;
const ecPem = createPublicKey(key.privateKey).export({ format: "pem", type: "spki" }) as string;

const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const seconds = Math.floor(nowMs / 1000);
const body = { sub: "system:serviceaccount:foo:sleep", aud: "istio-ca", exp: seconds + 600 };
const hmacToken = (secret: string, payload: object = body) => {
  const text = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded(payload)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
};
const rsaToken = (payload: object) => {
  const text = `${encoded({ alg: "RS256", typ: "JWT" })}.${encoded(payload)}`;
  return `${text}.${sign("sha256", Buffer.from(text), rsa.privateKey).toString("base64url")}`;
};
const verifierOf = (text: string, clock = new FakeClock(nowMs)) =>
  createTokenVerifier({ keys: decodeTokenKeys(text), clock });

describe("join tokens", () => {
  test("speak for the service account that they were made for", async () => {
    for (const text of [jwksOf([key]), ecPem])
      expect(await verifierOf(text).verify(await mintToken(key, claims))).toEqual({
        ok: true,
        namespace: "foo",
        serviceAccount: "sleep",
      });
  });

  test("are read when several keys without a name could have made them", async () => {
    const strangerPem = createPublicKey(stranger.privateKey).export({ format: "pem", type: "spki" });
    const verifier = verifierOf(`${strangerPem}${ecPem}`);
    expect(await verifier.verify(await mintToken(key, claims))).toMatchObject({ ok: true });
    expect(await verifier.verify(await mintToken(makeTokenKey("k1"), claims))).toEqual({
      ok: false,
      reason: "token refused: its signature does not hold",
    });
  });

  test("as Kubernetes makes them, signed with RSA, are read too", async () => {
    expect(
      await verifierOf(rsaPem).verify(rsaToken({ ...body, aud: ["istio-ca"], iss: "https://kubernetes.default.svc" })),
    ).toMatchObject({ ok: true });
  });

  test("end when they say, give or take half a minute", async () => {
    const token = await mintToken(key, claims);
    const clock = new FakeClock(nowMs);
    const verifier = verifierOf(ecPem, clock);
    clock.advance(620_000);
    expect(await verifier.verify(token)).toMatchObject({ ok: true });
    clock.advance(20_000);
    expect(await verifier.verify(token)).toEqual({ ok: false, reason: "token refused: it has expired" });
  });

  const refused: ReadonlyArray<{ it: string; token: () => string | Promise<string>; keys?: string; says: RegExp }> = [
    { it: "another key of the same name", token: () => mintToken(stranger, claims), says: /signature does not hold/ },
    { it: "another audience", token: () => mintToken(key, { ...claims, audience: "vault" }), says: /"aud"/ },
    { it: "no algorithm", token: () => `${encoded({ alg: "none" })}.${encoded(body)}.`, says: /algorithm|malformed/ },
    {
      it: "no algorithm, spelt otherwise",
      token: () => `${encoded({ alg: "nOnE" })}.${encoded(body)}.`,
      says: /algorithm|malformed/,
    },
    {
      it: "the RSA public key as an HMAC secret",
      token: () => hmacToken(rsaPem),
      keys: rsaPem,
      says: /algorithm is not allowed/,
    },
    {
      it: "the EC public key as an HMAC secret",
      token: () => hmacToken(ecPem),
      keys: ecPem,
      says: /algorithm is not allowed/,
    },
    { it: "no end", token: () => rsaToken({ sub: body.sub, aud: body.aud }), keys: rsaPem, says: /no "exp"/ },
    { it: "no subject", token: () => rsaToken({ aud: body.aud, exp: body.exp }), keys: rsaPem, says: /no "sub"/ },
    { it: "no audience", token: () => rsaToken({ sub: body.sub, exp: body.exp }), keys: rsaPem, says: /no "aud"/ },
    {
      it: "a beginning in the future",
      token: () => rsaToken({ ...body, nbf: seconds + 300 }),
      keys: rsaPem,
      says: /"nbf"/,
    },
    {
      it: "a user's subject",
      token: () => rsaToken({ ...body, sub: "alice" }),
      keys: rsaPem,
      says: /no service account/,
    },
    {
      it: "a subject with a path in it",
      token: () => rsaToken({ ...body, sub: "system:serviceaccount:foo:../bar/sa/x" }),
      keys: rsaPem,
      says: /no service account/,
    },
    {
      it: "a subject of four parts",
      token: () => rsaToken({ ...body, sub: "system:serviceaccount:foo:bar:baz" }),
      keys: rsaPem,
      says: /no service account/,
    },
    { it: "20,000 characters", token: () => "a".repeat(20_000), says: /more than 16384/ },
    { it: "nothing in it", token: () => "", says: /malformed/ },
    {
      it: "an ES256 token where the key is RSA",
      token: () => mintToken(key, claims),
      keys: rsaPem,
      says: /no known key/,
    },
  ];
  for (const { it, token, keys, says } of refused) {
    test(`with ${it} are refused`, async () => {
      const verdict = await verifierOf(keys ?? jwksOf([key])).verify(await token());
      expect(verdict.ok ? "" : verdict.reason).toMatch(says);
    });
  }

  test("of any bytes are refused and nothing else happens", async () => {
    const verifier = verifierOf(jwksOf([key]));
    const good = await mintToken(key, claims);
    await fc.assert(
      fc.asyncProperty(fc.string({ maxLength: 300 }), fc.nat(good.length - 1), async (text, at) => {
        expect(await verifier.verify(text)).toMatchObject({ ok: false });
        const changed = good.slice(0, at) + text;
        // Of the last letter some bits carry nothing, so it alone may differ.
        const same = changed.length === good.length && changed.slice(0, -1) === good.slice(0, -1);
        if (!same) expect(await verifier.verify(changed)).toMatchObject({ ok: false });
      }),
      { seed: 17, numRuns: 500 },
    );
  });

  const wrongKeys = [
    { it: "a symmetric key", text: '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}' },
    { it: "no key", text: '{"keys":[]}' },
    { it: "no list", text: "{}" },
    { it: "no JSON", text: "{x" },
    { it: "an empty file", text: "" },
  ];
  for (const { it, text } of wrongKeys) {
    test(`are not checked against ${it}`, () => expect(() => decodeTokenKeys(text)).toThrow(/keys for join tokens/));
  }

  test("follow the file of keys, and a bad file leaves the last good ones", async () => {
    const file = join(scratchDir(), "keys.json");
    const clock = new FakeClock(nowMs);
    const problems: string[] = [];
    writeFileSync(file, jwksOf([key]));
    const verifier = await startTokenVerifier({ keysFile: file, clock, onProblem: ({ code }) => problems.push(code) });
    const [mine, theirs] = [await mintToken(key, claims), await mintToken(stranger, claims)];
    writeFileSync(file, "{}");
    clock.advance(2000);
    expect((await verifier.verify(mine)).ok).toBe(true);
    expect(problems).toEqual(["ca/token-keys"]);
    writeFileSync(file, jwksOf([stranger]));
    clock.advance(2000);
    expect((await verifier.verify(mine)).ok).toBe(false);
    expect((await verifier.verify(theirs)).ok).toBe(true);
  });
});

describe("a caller", () => {
  const callers = createCallers({
    trustDomain: "cluster.local",
    clock: new FakeClock(nowMs),
    tokens: verifierOf(jwksOf([key])),
  });

  test("with a token is its service account in our trust domain", async () => {
    const authorization = [`Bearer ${await mintToken(key, claims)}`];
    expect(await callers.identify({ authorization })).toEqual({
      ok: true,
      identity: "spiffe://cluster.local/ns/foo/sa/sleep",
      by: "token",
    });
    // A certificate that is no proof does not take a good token away.
    expect(await callers.identify({ authorization, certificate: Buffer.from("x") })).toMatchObject({
      ok: true,
      by: "token",
    });
  });

  const nobody = [
    { it: "with nothing", authorization: [] },
    { it: "with a password", authorization: ["Basic eDp5"] },
    { it: "with an empty bearer", authorization: ["Bearer "] },
    { it: "with two authorizations", authorization: ["Bearer a.b.c", "Bearer d.e.f"] },
  ];
  for (const { it, authorization } of nobody) {
    test(`${it} is nobody`, async () => expect(await callers.identify({ authorization })).toMatchObject({ ok: false }));
  }
});
