import { expect, test } from "vitest";
import { Failure } from "../base/index.ts";
import { FakeClock } from "../testing/index.ts";
import { anyVerifier, createTokenReviewer, type TokenReviewStatus } from "./token-review.ts";
import { tokenAudience } from "./tokens.ts";

const account = "system:serviceaccount:foo:sleep";
const nowMs = Date.parse("2026-01-01T00:00:00Z");
const yes: TokenReviewStatus = {
  authenticated: true,
  audiences: [tokenAudience],
  user: { username: account, groups: ["system:serviceaccounts", "system:serviceaccounts:foo"] },
};

function tokenOf(claims: object, id = ""): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "RS256", id })}.${part(claims)}.c2ln`;
}

const sleepToken = (id = "") => tokenOf({ sub: account, exp: nowMs / 1_000 + 3_600 }, id);

/** A verifier of a cluster that answers as told, and how often it was asked. */
function reviewing(answer: (token: string) => TokenReviewStatus | undefined | Promise<TokenReviewStatus>) {
  const clock = new FakeClock(nowMs);
  const asked: string[] = [];
  const verifier = createTokenReviewer({
    clock,
    review: async (token, audience) => {
      asked.push(audience);
      return await answer(token);
    },
  });
  const pass = (ms: number): void => clock.advance(ms);
  return { clock, asked, pass, verify: (token: string) => verifier.verify(token) };
}

test("a token that the cluster knows, for our audience, speaks for its account", async () => {
  const { verify, asked } = reviewing(() => yes);
  expect(await verify(sleepToken())).toEqual({ ok: true, namespace: "foo", serviceAccount: "sleep" });
  expect(asked).toEqual(["istio-ca"]);
});

const refused: ReadonlyArray<{ it: string; status: TokenReviewStatus | undefined; reason: string }> = [
  { it: "nothing", status: undefined, reason: "it is not authenticated" },
  {
    it: "no",
    status: { authenticated: false, error: "token has been invalidated" },
    reason: "token has been invalidated",
  },
  { it: "yes for another audience", status: { ...yes, audiences: ["api"] }, reason: 'not meant for "istio-ca"' },
  {
    it: "yes of a server without audiences",
    status: { ...yes, audiences: undefined },
    reason: 'not meant for "istio-ca"',
  },
  { it: "yes for a user", status: { ...yes, user: { username: "admin", groups: [] } }, reason: "no service account's" },
  {
    it: "yes for a user who is called like an account",
    status: { ...yes, user: { username: account, groups: ["people"] } },
    reason: "no service account's",
  },
  { it: "yes in words only", status: { ...yes, authenticated: "true" }, reason: "not authenticated" },
];
for (const { it, status, reason } of refused) {
  test(`a cluster that says ${it} means no`, async () => {
    const verdict = await reviewing(() => status).verify(sleepToken());
    expect(verdict).toMatchObject({ ok: false, reason: expect.stringContaining(reason) });
  });
}

const noise: ReadonlyArray<{ it: string; token: string }> = [
  { it: "no JWT", token: "abc" },
  { it: "a JWT of somebody else", token: tokenOf({ sub: "alice" }) },
  { it: "an old token", token: tokenOf({ sub: account, exp: nowMs / 1_000 - 1 }) },
  { it: "a huge token", token: tokenOf({ sub: account, more: "x".repeat(20_000) }) },
];
for (const { it, token } of noise) {
  test(`nobody is asked about ${it}`, async () => {
    const { verify, asked } = reviewing(() => yes);
    expect((await verify(token)).ok).toBe(false);
    expect(asked).toEqual([]);
  });
}

test("a yes holds for half a minute, a no for two seconds, neither longer than the token", async () => {
  const { verify, asked, pass, clock } = reviewing(() => (asked.length > 2 ? yes : { authenticated: false }));
  await verify(sleepToken());
  await verify(sleepToken());
  expect(asked).toHaveLength(1);
  pass(2_000);
  await verify(sleepToken());
  expect(asked).toHaveLength(2);
  pass(2_000);
  expect((await verify(sleepToken())).ok).toBe(true);
  pass(29_999);
  expect((await verify(sleepToken())).ok).toBe(true);
  expect(asked).toHaveLength(3);
  pass(1);
  await verify(sleepToken());
  expect(asked).toHaveLength(4);
  const short = tokenOf({ sub: account, exp: clock.now() / 1_000 + 5 });
  expect((await verify(short)).ok).toBe(true);
  pass(5_000);
  expect((await verify(short)).ok).toBe(false);
});

test("one question for many callers who show the same token at once", async () => {
  let answer = (_: TokenReviewStatus) => {};
  const { verify, asked } = reviewing(() => new Promise<TokenReviewStatus>((resolve) => (answer = resolve)));
  const all = Promise.all([verify(sleepToken()), verify(sleepToken()), verify(sleepToken())]);
  await Promise.resolve();
  answer(yes);
  expect((await all).every(({ ok }) => ok)).toBe(true);
  expect(asked).toHaveLength(1);
});

test("a cluster that is away refuses nobody: it is asked again the next time", async () => {
  let away = true;
  const { verify } = reviewing(() => {
    if (away) throw new Failure("kube/unreachable", "gone");
    return yes;
  });
  await expect(verify(sleepToken())).rejects.toMatchObject({ code: "ca/token-review" });
  away = false;
  expect((await verify(sleepToken())).ok).toBe(true);
});

test("questions are bounded: so many at once, so many waiting, and no more", async () => {
  const open: Array<(status: TokenReviewStatus) => void> = [];
  let most = 0;
  const { verify } = reviewing(() => {
    most = Math.max(most, open.length + 1);
    return new Promise((resolve) => open.push(resolve));
  });
  const verdicts = Array.from({ length: 2_100 }, (_, at) =>
    verify(sleepToken(String(at))).then(
      (verdict) => (verdict.ok ? "yes" : "no"),
      (failure: Failure) => failure.code,
    ),
  );
  const settled = Promise.all(verdicts);
  let done = false;
  void settled.then(() => (done = true));
  while (!done) {
    for (const answer of open.splice(0)) answer(yes);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const counts = new Map<string, number>();
  for (const verdict of await settled) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
  expect(counts.get("yes")).toBe(2_016);
  expect(counts.get("ca/token-review")).toBe(84);
  expect(most).toBeLessThanOrEqual(16);
});

test("of several verifiers the first that knows a token decides; one that cannot be asked leaves it open", async () => {
  const knows = { verify: async () => ({ ok: true, namespace: "foo", serviceAccount: "sleep" }) as const };
  const not = { verify: async () => ({ ok: false, reason: "no known key fits it" }) as const };
  const away = {
    verify: async () => {
      throw new Failure("ca/token-review", "away");
    },
  };
  expect((await anyVerifier([knows, away]).verify("t")).ok).toBe(true);
  expect((await anyVerifier([not, knows]).verify("t")).ok).toBe(true);
  expect(await anyVerifier([not, not]).verify("t")).toMatchObject({ ok: false });
  await expect(anyVerifier([not, away]).verify("t")).rejects.toMatchObject({ code: "ca/token-review" });
});
