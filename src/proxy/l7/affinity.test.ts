import { expect, test } from "vitest";
import type { HashPolicy } from "../config/route.ts";
import { affinityOf } from "./affinity.ts";
import type { RequestHead } from "./message.ts";

const request = (path: string, headers: readonly string[] = []): RequestHead => ({
  method: "GET",
  path,
  authority: "app",
  version: "HTTP/1.1",
  headers: [...headers],
  contentLength: -1,
  hasBody: false,
  upgrade: undefined,
  expectContinue: false,
});

const ask = (policy: HashPolicy, path: string, headers: readonly string[] = [], chance = 0.5) =>
  affinityOf([policy], { request: request(path, headers), remoteIp: "10.0.0.1", random: () => chance });

const rows: ReadonlyArray<readonly [string, HashPolicy, (value: string) => [string, string[]]]> = [
  ["header", { kind: "header", name: "x-user", terminal: false }, (value) => ["/", ["x-user", value]]],
  ["query parameter", { kind: "query", name: "user", terminal: false }, (value) => [`/?user=${value}`, []]],
  [
    "cookie",
    { kind: "cookie", name: "user", terminal: false, make: undefined },
    (value) => ["/", ["cookie", `a=b; user=${value}`]],
  ],
];

for (const [what, policy, carrying] of rows)
  test(`a hash is the same for the same ${what} and another for another`, () => {
    const hash = (value: string) => ask(policy, ...carrying(value)).hash;
    expect(hash("a")).toBe(hash("a"));
    expect(hash("a")).not.toBe(hash("b"));
    expect(ask(policy, "/")).toEqual({ hash: undefined, setCookie: undefined });
  });

test("a caller without the cookie gets one, and comes back with it to where it was", () => {
  const policy: HashPolicy = { kind: "cookie", name: "home", terminal: false, make: { path: "/", maxAgeS: 60 } };
  const first = ask(policy, "/");
  expect(first.setCookie).toBe('home="800000000000"; Max-Age=60; Path=/; HttpOnly');
  const back = ask(policy, "/", ["cookie", 'home="800000000000"']);
  expect(back).toEqual({ hash: first.hash, setCookie: undefined });
});

test("a cookie without an age is for the session", () => {
  const policy: HashPolicy = { kind: "cookie", name: "home", terminal: false, make: { path: "", maxAgeS: 0 } };
  expect(ask(policy, "/").setCookie).toBe('home="800000000000"; HttpOnly');
});
