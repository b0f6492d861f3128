import { describe, expect, test } from "vitest";
import type { RequestHead } from "./message.ts";
import { changeHeaders, findRoute, findVirtualHost, normalAuthority, rewritePath } from "./route-match.ts";
import { tableOf } from "./testing/rig.ts";

const request = (path: string, headers: string[] = [], method = "GET"): RequestHead => ({
  method,
  path,
  authority: "a",
  version: "HTTP/1.1",
  headers,
  contentLength: -1,
  hasBody: false,
  upgrade: undefined,
  expectContinue: false,
});
const to = (cluster: string) =>
  ({ case: "route", value: { clusterSpecifier: { case: "cluster", value: cluster } } }) as const;

describe("the virtual host of an authority", () => {
  const host = (name: string, ...domains: string[]) => ({ name, domains, routes: [] });
  const table = tableOf({
    name: "t",
    virtualHosts: [
      host("exact", "shop.example.org", "shop.example.org:8000", "240.0.0.2", "[2001:db8::1]:80"),
      host("suffix", "*.example.org"),
      host("longer", "*.eu.example.org"),
      host("prefix", "api.*"),
      host("any", "*"),
    ],
  });
  const rows = [
    ["shop.example.org", "exact"],
    ["SHOP.Example.ORG", "exact"],
    ["shop.example.org.", "exact"],
    ["shop.example.org.:8000", "exact"],
    ["shop.example.org:8000", "exact"],
    ["240.0.0.2", "exact"],
    ["[2001:DB8::1]:80", "exact"],
    ["shop.example.org:9000", "any"],
    ["a.example.org", "suffix"],
    ["a.eu.example.org", "longer"],
    ["example.org", "any"],
    [".example.org", "any"],
    ["api.anything", "prefix"],
    ["", "any"],
  ] as const;
  for (const [authority, name] of rows)
    test(`"${authority}" is ${name}`, () => expect(findVirtualHost(table, authority)?.name).toBe(name));

  test("without its port where the table says so", () => {
    const ignoring = tableOf({ name: "t", ignorePortInHostMatching: true, virtualHosts: [host("x", "a.b")] });
    expect(findVirtualHost(ignoring, "a.b:8000")?.name).toBe("x");
    expect(findVirtualHost(ignoring, "[::1]")?.name).toBeUndefined();
    expect(normalAuthority("[::1]:80")).toBe("[::1]:80");
  });
});

describe("the route of a request", () => {
  const prefix = (value: string) => ({ pathSpecifier: { case: "prefix", value } }) as const;
  const table = tableOf({
    name: "t",
    virtualHosts: [
      {
        name: "h",
        domains: ["*"],
        routes: [
          { match: { pathSpecifier: { case: "path", value: "/exact" } }, action: to("exact") },
          { match: { pathSpecifier: { case: "pathSeparatedPrefix", value: "/part" } }, action: to("segments") },
          { match: { pathSpecifier: { case: "safeRegex", value: { regex: "/v[0-9]+/.*" } } }, action: to("regex") },
          { match: { pathSpecifier: { case: "safeRegex", value: { regex: "/(a+)+" } } }, action: to("evil") },
          { match: { ...prefix("/Fold"), caseSensitive: false }, action: to("fold") },
          {
            match: {
              ...prefix("/"),
              headers: [{ name: ":method", headerMatchSpecifier: { case: "exactMatch", value: "POST" } }],
            },
            action: to("post"),
          },
          {
            match: {
              ...prefix("/"),
              headers: [
                {
                  name: "X-User",
                  headerMatchSpecifier: {
                    case: "stringMatch",
                    value: { matchPattern: { case: "exact", value: "jason" } },
                  },
                },
              ],
            },
            action: to("jason"),
          },
          {
            match: {
              ...prefix("/"),
              queryParameters: [
                {
                  name: "v",
                  queryParameterMatchSpecifier: {
                    case: "stringMatch",
                    value: { matchPattern: { case: "exact", value: "2" } },
                  },
                },
              ],
            },
            action: to("query"),
          },
          { match: prefix("/"), action: to("rest") },
        ],
      },
    ],
  });
  const cluster = (given: RequestHead) => {
    const route = findRoute(table.virtualHosts[0]!, given, "http", () => 0.5);
    return route?.action.kind === "forward" && route.action.to.kind === "cluster" ? route.action.to.name : undefined;
  };
  const rows: ReadonlyArray<readonly [it: string, request: RequestHead, cluster: string]> = [
    ["an exact path", request("/exact?x=1"), "exact"],
    ["more than an exact path", request("/exact/"), "rest"],
    ["whole segments", request("/part/x"), "segments"],
    ["a segment that only begins alike", request("/partly"), "rest"],
    ["a regex on the whole path", request("/v12/x?y"), "regex"],
    ["a regex on part of it", request("/x/v12/x"), "rest"],
    ["upper case where case does not matter", request("/FOLDER"), "fold"],
    ["a method", request("/", [], "POST"), "post"],
    ["a header", request("/", ["x-user", "jason"]), "jason"],
    ["a header that is there twice", request("/", ["x-user", "jason", "x-user", "mary"]), "rest"],
    ["a query parameter", request("/?a=1&v=2"), "query"],
    ["nothing special", request("/other"), "rest"],
  ];
  for (const [it, given, expected] of rows) test(`by ${it}`, () => expect(cluster(given)).toBe(expected));

  test("a regex that would take years elsewhere takes no time", () => {
    const start = performance.now();
    expect(cluster(request(`/${"a".repeat(60)}!`))).toBe("rest");
    expect(performance.now() - start).toBeLessThan(100);
  });
});

describe("a header that must not have a value", () => {
  const excluding = (treatMissingHeaderAsEmpty: boolean) => {
    const value = { matchPattern: { case: "prefix", value: "v1" } } as const;
    const headers = [
      {
        name: "x-version",
        invertMatch: true,
        treatMissingHeaderAsEmpty,
        headerMatchSpecifier: { case: "stringMatch", value } as const,
      },
    ];
    const match = { pathSpecifier: { case: "prefix", value: "/" }, headers } as const;
    const table = tableOf({
      name: "t",
      virtualHosts: [{ name: "h", domains: ["*"], routes: [{ match, action: to("x") }] }],
    });
    return (fields: string[]) => findRoute(table.virtualHosts[0]!, request("/", fields), "http", () => 0) !== undefined;
  };
  test("may be missing where that counts as empty, and only there", () => {
    expect(excluding(true)([])).toBe(true);
    expect(excluding(false)([])).toBe(false);
  });
  test("may have another", () => {
    expect(excluding(true)(["x-version", "v2"])).toBe(true);
    expect(excluding(true)(["x-version", "v1.5"])).toBe(false);
  });
});

test("the scheme is what a proxy in front says, else the connection's", () => {
  const headers = [{ name: ":scheme", headerMatchSpecifier: { case: "exactMatch", value: "https" } as const }];
  const match = { pathSpecifier: { case: "prefix", value: "/" }, headers } as const;
  const table = tableOf({
    name: "t",
    virtualHosts: [{ name: "h", domains: ["*"], routes: [{ match, action: to("x") }] }],
  });
  const matches = (fields: string[], scheme: string) =>
    findRoute(table.virtualHosts[0]!, request("/", fields), scheme, () => 0) !== undefined;
  expect(matches([], "https")).toBe(true);
  expect(matches(["x-forwarded-proto", "https"], "http")).toBe(true);
  expect(matches(["x-forwarded-proto", "gopher"], "http")).toBe(false);
});

describe("a header that a route sets", () => {
  const operators = { substituted: (template: string) => (template === "%NOTHING%" ? "" : `<${template}>`) };
  test("is left alone when its operator stands for nothing", () => {
    const headers = ["a", "1"];
    changeHeaders(headers, [{ kind: "overwrite", name: "a", value: "%NOTHING%" }], operators);
    expect(headers).toEqual(["a", "1"]);
  });
  test("may be empty, and may hold what operators say", () => {
    const headers = ["a", "1"];
    changeHeaders(
      headers,
      [
        { kind: "overwrite", name: "a", value: "" },
        { kind: "append", name: "b", value: "%B%" },
      ],
      operators,
    );
    expect(headers).toEqual(["a", "", "b", "<%B%>"]);
  });
});

describe("a rewrite", () => {
  const match = tableOf({
    name: "t",
    virtualHosts: [
      {
        name: "h",
        domains: ["*"],
        routes: [{ match: { pathSpecifier: { case: "prefix", value: "/api/" } }, action: to("x") }],
      },
    ],
  }).virtualHosts[0]!.routes[0]!.match;
  test("of a prefix keeps the rest and the query", () =>
    expect(rewritePath("/api/x?q=1", { kind: "prefix", value: "/v2/" }, match)).toBe("/v2/x?q=1"));
  test("stays a path", () => expect(rewritePath("/api/x", { kind: "prefix", value: "" }, match)).toBe("/x"));
});
