import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { connect, createServer as createTcpServer, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import type { RouteTable } from "../config/route.ts";
import { managerOf, type Rig, startRig, TestUpstream, tableOf, talk } from "./testing/rig.ts";

let rig: Rig | undefined;
const closers: Array<() => Promise<unknown> | undefined> = [];

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  await rig?.close();
  expect(rig?.sockets.size ?? 0).toBe(0);
  rig = undefined;
});

/** A server that says its name, the path and what `more` says. */
async function named(name: string, status: () => number = () => 200): Promise<TestUpstream> {
  const server = createServer((request, response) => {
    response.statusCode = status();
    response.end(`<${name} ${request.method} ${request.url} ${request.headers["x-envoy-attempt-count"] ?? ""}>`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return new TestUpstream(name, [(server.address() as { port: number }).port]);
}

/** A server whose connections do as they are told. */
async function raw(name: string, onConnection: (socket: Socket) => void): Promise<TestUpstream> {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return new TestUpstream(name, [(server.address() as { port: number }).port]);
}

type Given = Parameters<typeof tableOf>[0];
type Host = NonNullable<Given["virtualHosts"]>[number];
type RouteGiven = NonNullable<Host["routes"]>[number];

const routes = (...list: readonly RouteGiven[]): RouteTable =>
  tableOf({ name: "test", virtualHosts: [{ name: "all", domains: ["*"], routes: [...list] }] });

const prefix = (value: string): NonNullable<RouteGiven["match"]> => ({ pathSpecifier: { case: "prefix", value } });
const get = (path = "/", fields = "", host = "a.example:8080") =>
  `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;
const whole = /\r\n\r\n/;

describe("a redirect", () => {
  const rows: ReadonlyArray<readonly [string, object, string]> = [
    [
      "of the scheme keeps a port that was named",
      { schemeRewriteSpecifier: { case: "httpsRedirect", value: true } },
      "https://a.example:8080/old/x?q=1",
    ],
    ["of the host keeps scheme, path and query", { hostRedirect: "b.example" }, "http://b.example/old/x?q=1"],
    ["of the port", { portRedirect: 9090 }, "http://a.example:9090/old/x?q=1"],
    [
      "of the prefix",
      { pathRewriteSpecifier: { case: "prefixRewrite", value: "/new" } },
      "http://a.example:8080/new/x?q=1",
    ],
    [
      "of the whole path",
      { pathRewriteSpecifier: { case: "pathRedirect", value: "/new" } },
      "http://a.example:8080/new?q=1",
    ],
    ["without the query", { stripQuery: true }, "http://a.example:8080/old/x"],
  ];
  for (const [what, value, location] of rows) {
    test(what, async () => {
      const table = routes({ match: prefix("/old"), action: { case: "redirect", value } });
      rig = await startRig({ table });
      const answer = await talk(rig.port, get("/old/x?q=1"), { until: whole });
      expect(answer).toMatch(/^HTTP\/1\.1 301 /);
      expect(answer).toContain(`location: ${location}\r\n`);
      expect(rig.records[0]).toMatchObject({ responseCode: 301, details: "direct_response", flags: [] });
    });
  }

  test("says the status that the route names", async () => {
    rig = await startRig({
      table: routes({
        match: prefix("/"),
        action: { case: "redirect", value: { responseCode: 4, hostRedirect: "b" } },
      }),
    });
    expect(await talk(rig.port, get(), { until: whole })).toMatch(/^HTTP\/1\.1 308 /);
  });
});

describe("weighted clusters", () => {
  const weighted = (one: number, two: number) =>
    routes({
      match: prefix("/"),
      action: {
        case: "route",
        value: {
          clusterSpecifier: {
            case: "weightedClusters",
            value: {
              clusters: [
                { name: "one", weight: one, responseHeadersToAdd: [{ header: { key: "x-of", value: "1" } }] },
                { name: "two", weight: two },
              ],
            },
          },
        },
      },
    });

  test("are chosen by chance in proportion, and bring their own headers", async () => {
    let chance = 0;
    rig = await startRig({
      table: weighted(25, 75),
      clusters: [await named("one"), await named("two")],
      random: () => chance,
    });
    const served = async (at: number) => {
      chance = at;
      return talk(rig!.port, get(), { until: ">" });
    };
    expect(await served(0)).toContain("<one ");
    expect(await served(0.24)).toMatch(/x-of: 1\r\n[\s\S]*<one /);
    const other = await served(0.26);
    expect(other).toContain("<two ");
    expect(other).not.toContain("x-of");
    expect(await served(0.999)).toContain("<two ");
    expect(rig.records.map(({ upstreamCluster }) => upstreamCluster)).toEqual(["one", "one", "two", "two"]);
  });
});

describe("a direct response", () => {
  test("of bytes that are no text comes as they are", async () => {
    const body = { specifier: { case: "inlineBytes", value: new Uint8Array([0, 0x80, 0xff]) } } as const;
    const action = { case: "directResponse", value: { status: 200, body } } as const;
    rig = await startRig({ table: routes({ match: prefix("/"), action }) });
    const answer = await talk(rig.port, get(), { until: "\xff" });
    expect(answer).toContain("content-length: 3\r\n");
    expect(answer.endsWith("\r\n\r\n\0\x80\xff")).toBe(true);
  });

  test("has headers that tell of itself", async () => {
    const action = { case: "directResponse", value: { status: 418 } } as const;
    const responseHeadersToAdd = [{ header: { key: "x-code", value: "%RESPONSE_CODE% of %REQ(:path):3%" } }];
    rig = await startRig({ table: routes({ match: prefix("/"), action, responseHeadersToAdd }) });
    expect(await talk(rig.port, get("/long"), { until: whole })).toContain("x-code: 418 of /lo\r\n");
  });
});

describe("a path rewritten by a regex", () => {
  test("takes groups, the whole match and backslashes into its place", async () => {
    const regexRewrite = { pattern: { regex: "/(a+)" }, substitution: "/\\1-\\0-\\\\$1" };
    const action = {
      case: "route",
      value: { clusterSpecifier: { case: "cluster", value: "app" }, regexRewrite },
    } as const;
    rig = await startRig({ table: routes({ match: prefix("/"), action }), clusters: [await named("app")] });
    expect(await talk(rig.port, get("/aa"), { until: ">" })).toContain("<app GET /aa-/aa-\\$1");
  });
});

describe("CORS", () => {
  const cors = ({ origin = "https://page.example", forward = true } = {}) =>
    tableOf({
      name: "test",
      virtualHosts: [
        {
          name: "all",
          domains: ["*"],
          cors: {
            allowOriginStringMatch: [{ matchPattern: { case: "exact", value: origin } }],
            forwardNotMatchingPreflights: forward,
            allowMethods: "GET,PUT",
            allowHeaders: "x-a",
            exposeHeaders: "x-b",
            maxAge: "600",
            allowCredentials: true,
          },
          routes: [
            {
              match: prefix("/"),
              action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: "app" } } },
            },
          ],
        },
      ],
    });
  const preflight = (origin: string) =>
    `OPTIONS /x HTTP/1.1\r\nHost: a\r\nOrigin: ${origin}\r\nAccess-Control-Request-Method: PUT\r\n\r\n`;

  test("answers the preflight of a page that may, without asking anybody", async () => {
    rig = await startRig({ table: cors(), clusters: [await named("app")] });
    const answer = await talk(rig.port, preflight("https://page.example"), { until: whole });
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    for (const field of ["origin: https://page.example", "methods: GET,PUT", "headers: x-a", "credentials: true"])
      expect(answer).toContain(`access-control-allow-${field}\r\n`);
    expect(answer).toContain("access-control-max-age: 600\r\n");
    expect(rig.records[0]).toMatchObject({ details: "cors.response", upstreamCluster: undefined });
  });

  test("leaves the preflight of any other page to the server", async () => {
    rig = await startRig({ table: cors(), clusters: [await named("app")] });
    const answer = await talk(rig.port, preflight("https://other.example"), { until: ">" });
    expect(answer).toContain("<app OPTIONS /x");
    expect(answer).not.toContain("access-control");
  });

  test("answers the preflight of any other page where it is not to be passed on, and lets nobody in by that", async () => {
    rig = await startRig({ table: cors({ forward: false }), clusters: [await named("app")] });
    const answer = await talk(rig.port, preflight("https://other.example"), { until: whole });
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer).not.toContain("access-control-allow-origin");
    expect(rig.records[0]).toMatchObject({ details: "cors.response", upstreamCluster: undefined });
  });

  test("takes a star for every page", async () => {
    rig = await startRig({ table: cors({ origin: "*" }), clusters: [await named("app")] });
    const answer = await talk(rig.port, get("/", "Origin: https://any.example\r\n"), { until: ">" });
    expect(answer).toContain("access-control-allow-origin: https://any.example\r\n");
  });

  test("tells a page that may so in the server's answer", async () => {
    rig = await startRig({ table: cors(), clusters: [await named("app")] });
    const answer = await talk(rig.port, get("/", "Origin: https://page.example\r\n"), { until: ">" });
    expect(answer).toContain("access-control-allow-origin: https://page.example\r\n");
    expect(answer).toContain("access-control-expose-headers: x-b\r\n");
    expect(await talk(rig.port, get("/", "Origin: https://x\r\n"), { until: ">" })).not.toContain("access-control");
  });
});

describe("a fault", () => {
  const faulty = (fault: object) => {
    const manager = managerOf();
    const full = { delay: undefined, abort: undefined, ...fault };
    return {
      manager: { ...manager, fault: full },
      table: routes({
        match: prefix("/"),
        action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: "app" } } },
      }),
    };
  };

  test("aborts the share of requests that it names", async () => {
    let chance = 0.4;
    rig = await startRig({
      ...faulty({ abort: { status: 418, grpcStatus: undefined, fraction: 0.5 } }),
      clusters: [await named("app")],
      random: () => chance,
    });
    expect(await talk(rig.port, get(), { until: "abort\n" })).toMatch(/^HTTP\/1\.1 418 /);
    expect(rig.records[0]).toMatchObject({ flags: ["FI"], details: "fault_filter_abort" });
    chance = 0.6;
    expect(await talk(rig.port, get(), { until: ">" })).toContain("<app ");
  });

  test("delays a request with its body, which then goes its way", async () => {
    rig = await startRig({ ...faulty({ delay: { ms: 5, fraction: 1 } }), clusters: [await named("app")] });
    const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    expect(await talk(rig.port, post, { until: ">" })).toContain("<app POST");
    expect(rig.records[0]).toMatchObject({ flags: ["DI"], responseCode: 200, bytesReceived: 5 });
  });
});

describe("another try", () => {
  const trying = (retryPolicy: object) =>
    tableOf({
      name: "test",
      virtualHosts: [
        {
          name: "all",
          domains: ["*"],
          includeRequestAttemptCount: true,
          routes: [
            {
              match: prefix("/"),
              action: {
                case: "route",
                value: {
                  clusterSpecifier: { case: "cluster", value: "app" },
                  retryPolicy: { retryBackOff: { baseInterval: { seconds: 0n, nanos: 1_000_000 } }, ...retryPolicy },
                },
              },
            },
          ],
        },
      ],
    });

  test("follows one that took too long, on another connection, and the server learns its number", async () => {
    const seen: string[] = [];
    const upstream = await raw("app", (socket) => {
      socket.on("data", (chunk: Buffer) => {
        seen.push(/x-envoy-attempt-count: (\d)/.exec(chunk.toString())?.[1] ?? "");
        if (seen.length === 2) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<2>");
      });
    });
    const table = trying({ retryOn: "5xx", numRetries: 2, perTryTimeout: { seconds: 0n, nanos: 30_000_000 } });
    rig = await startRig({ table, clusters: [upstream] });
    expect(await talk(rig.port, get(), { until: "<2>" })).toMatch(/^HTTP\/1\.1 200 /);
    expect(seen).toEqual(["1", "2"]);
    expect(upstream.connects).toBe(2);
    expect(rig.records[0]).toMatchObject({ attempts: 2, responseCode: 200 });
  });

  test("that takes too long as well ends in a 504 with both reasons", async () => {
    const upstream = await raw("app", (socket) => socket.resume());
    const table = trying({ retryOn: "5xx", numRetries: 1, perTryTimeout: { seconds: 0n, nanos: 20_000_000 } });
    rig = await startRig({ table, clusters: [upstream] });
    expect(await talk(rig.port, get(), { until: "try\n" })).toMatch(/^HTTP\/1\.1 504 /);
    expect(rig.records[0]).toMatchObject({ attempts: 2, flags: ["URX", "UT"], details: "upstream_per_try_timeout" });
    expect(upstream.outcomes).toEqual(["gateway-error", "gateway-error"]);
  });

  test("is made for a status below 500 where the route names it", async () => {
    let answers = 0;
    const upstream = await named("app", () => (++answers < 3 ? 429 : 200));
    const table = trying({ retryOn: "retriable-status-codes", retriableStatusCodes: [429], numRetries: 3 });
    rig = await startRig({ table, clusters: [upstream] });
    expect(await talk(rig.port, get(), { until: ">" })).toMatch(/^HTTP\/1\.1 200 [\s\S]*<app GET \/ 3>/);
    expect(rig.records[0]).toMatchObject({ attempts: 3, responseCode: 200, flags: [] });
  });
});

describe("a server", () => {
  const all = routes({
    match: prefix("/"),
    action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: "app" } } },
  });

  test("that sends one informational answer after the other is given up", async () => {
    const upstream = await raw("app", (socket) => {
      socket.on("data", () => socket.write("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(33)));
    });
    rig = await startRig({ table: all, clusters: [upstream] });
    expect(await talk(rig.port, get(), { until: "answers\n" })).toMatch(/HTTP\/1\.1 502 /);
    expect(rig.records[0]).toMatchObject({ responseCode: 502, flags: ["UPE"] });
    await expect.poll(() => upstream.open.size).toBe(0);
  });

  test("is held back by each of many slow readers, and none of them loses a byte", async () => {
    const length = 12 * 1024 * 1024;
    const bodies = Array.from({ length: 6 }, () => randomBytes(length));
    const upstream = await raw("app", (socket) => {
      socket.on("data", (chunk: Buffer) => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n`);
        socket.write(bodies[Number(/^GET \/(\d)/.exec(chunk.toString())?.[1])]!);
      });
    });
    const running = await startRig({ table: all, clusters: [upstream] });
    rig = running;
    const readers = bodies.map((_, index) => {
      const socket = connect({ host: "127.0.0.1", port: running.port });
      socket.pause();
      socket.write(get(`/${index}`, "Connection: close\r\n"));
      return socket;
    });
    // All of them are being served, and cannot be served to the end.
    await expect.poll(() => running.http.metrics.active).toBe(readers.length);
    const whole = readers.map(async (socket, index) => {
      const chunks: Buffer[] = [];
      for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
      const got = Buffer.concat(chunks);
      return got.subarray(got.indexOf("\r\n\r\n") + 4).equals(bodies[index]!);
    });
    expect(await Promise.all(whole)).toEqual(readers.map(() => true));
  });
});
