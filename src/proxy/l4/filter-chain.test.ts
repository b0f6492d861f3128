import { expect, test } from "vitest";
import { type Ip, parseCidr } from "../../values/index.ts";
import type { ChainConfig, ChainMatch } from "../config/listener.ts";
import { type ChainQuestion, chooseChain } from "./filter-chain.ts";

const cidrs = (...texts: string[]) => texts.map((text) => parseCidr(text)!);

function chain(name: string, match: Partial<ChainMatch>): ChainConfig {
  return {
    name,
    digest: name,
    tls: undefined,
    metadata: {},
    terminal: {
      kind: "tcp",
      tcp: {
        statPrefix: name,
        clusters: [{ name, weight: 1 }],
        idleTimeoutMs: undefined,
        maxDurationMs: undefined,
        maxConnectAttempts: 1,
        hashBySource: false,
        accessLogs: [],
        logAtStart: false,
      },
    },
    match: {
      destinationPort: undefined,
      prefixRanges: [],
      serverNames: [],
      transportProtocol: undefined,
      applicationProtocols: [],
      sourceType: "any",
      sourceRanges: [],
      sourcePorts: [],
      ...match,
    },
  };
}

const plain: ChainQuestion = {
  destination: { ip: "10.1.2.3" as Ip, port: 80 },
  source: { ip: "10.9.9.9" as Ip, port: 5555 },
  serverName: undefined,
  transportProtocol: "raw_buffer",
  applicationProtocols: [],
};

const gateway = [
  chain("a", { serverNames: ["outbound_.8000_._.a.b.global"] }),
  chain("wide", { serverNames: ["*.b.global"] }),
  chain("wider", { serverNames: ["*.global"] }),
];
const inbound = [
  chain("mtls-http", {
    destinationPort: 80,
    transportProtocol: "tls",
    applicationProtocols: ["istio-http/1.1", "istio-h2"],
  }),
  chain("mtls-tcp", { destinationPort: 80, transportProtocol: "tls", applicationProtocols: ["istio"] }),
  chain("tls", { destinationPort: 80, transportProtocol: "tls" }),
  chain("plain-http", { destinationPort: 80, applicationProtocols: ["http/1.1", "h2c"] }),
  chain("plain-tcp", { destinationPort: 80 }),
  chain("rest", {}),
];
const ranges = [
  chain("host", { prefixRanges: cidrs("10.1.2.3/32") }),
  chain("net", { prefixRanges: cidrs("10.1.0.0/16", "10.2.0.0/16") }),
  chain("all", { prefixRanges: cidrs("0.0.0.0/0") }),
];

const tls = (serverName: string | undefined, ...alpn: string[]): ChainQuestion => ({
  ...plain,
  serverName,
  transportProtocol: "tls",
  applicationProtocols: alpn,
});
const to = (ip: string, port = 80): ChainQuestion => ({ ...plain, destination: { ip: ip as Ip, port } });

const rows: ReadonlyArray<readonly [string, readonly ChainConfig[], ChainQuestion, string | undefined]> = [
  ["an exact server name beats wildcards", gateway, tls("outbound_.8000_._.a.b.global"), "a"],
  ["a longer wildcard beats a shorter one", gateway, tls("x.b.global"), "wide"],
  ["a wildcard covers any depth", gateway, tls("x.y.c.global"), "wider"],
  ["a wildcard does not cover its own suffix", gateway, tls("global"), undefined],
  ["no server name matches no named chain", gateway, tls(undefined), undefined],
  ["plaintext matches no named chain", gateway, plain, undefined],
  ["a sidecar's HTTP takes the mutual TLS HTTP chain", inbound, tls("s", "istio-http/1.1", "istio"), "mtls-http"],
  ["a sidecar's TCP takes the mutual TLS TCP chain", inbound, tls("s", "istio"), "mtls-tcp"],
  ["the client's first protocol decides", inbound, tls("s", "istio", "istio-http/1.1"), "mtls-tcp"],
  ["foreign TLS is passed on even when it offers http/1.1", inbound, tls("s", "h2", "http/1.1"), "tls"],
  ["plain HTTP by its looks", inbound, { ...plain, applicationProtocols: ["http/1.1"] }, "plain-http"],
  ["anything else is plain TCP", inbound, plain, "plain-tcp"],
  ["a port that matched is not left again", inbound, to("10.1.2.3", 80), "plain-tcp"],
  ["another port takes the chain without one", inbound, to("10.1.2.3", 81), "rest"],
  ["the longest range wins", ranges, to("10.1.2.3"), "host"],
  ["a range among several", ranges, to("10.2.0.1"), "net"],
  ["everything is a range too", ranges, to("192.0.2.1"), "all"],
  ["IPv6 is in no IPv4 range", ranges, to("2001:db8::1"), undefined],
  [
    "a more specific range is kept although its server name does not match",
    [
      chain("near", { prefixRanges: cidrs("10.1.2.3/32"), serverNames: ["x"] }),
      chain("far", { prefixRanges: cidrs("10.0.0.0/8") }),
    ],
    plain,
    undefined,
  ],
  [
    "callers of this machine by source type",
    [chain("own", { sourceType: "local" }), chain("others", { sourceType: "external" })],
    { ...plain, source: { ip: "127.0.0.1" as Ip, port: 1 } },
    "own",
  ],
  [
    "callers by range and port",
    [
      chain("port", { sourceRanges: cidrs("10.9.0.0/16"), sourcePorts: [5555] }),
      chain("range", { sourceRanges: cidrs("10.9.0.0/16") }),
    ],
    plain,
    "port",
  ],
  ["no chain, no match", [], plain, undefined],
];
for (const [name, chains, question, wanted] of rows)
  test(name, () => expect(chooseChain(chains, question)?.name).toBe(wanted));
