import { describe, expect, test } from "vitest";
import {
  cidrContains,
  clusterName,
  covers,
  formatOrigin,
  outbound,
  parseCidr,
  parseClusterName,
  parseHostname,
  parseIp,
  parseSniName,
  parseSocketAddress,
  parseSpiffeId,
  protocolOfServicePort,
  selects,
  sniName,
  virtualAddressProblem,
} from "./index.ts";

describe("host names", () => {
  const good = ["httpbin.bar.global", "*.bar.global", "a", "x-1.y", "HTTPBIN.Bar.Global.", `${"a".repeat(63)}.b`];
  for (const text of good)
    test(`"${text}" is one`, () => expect(parseHostname(text)).toBe(text.toLowerCase().replace(/\.$/, "")));
  const bad = [
    "",
    ".",
    "*",
    "a..b",
    "-a.b",
    "a-.b",
    "a_b.c",
    "10.0.0.1",
    "a.*.b",
    `${"a".repeat(64)}.b`,
    "a b",
    `${"a.".repeat(127)}a`,
  ];
  for (const text of bad) test(`"${text.slice(0, 20)}" is none`, () => expect(parseHostname(text)).toBeUndefined());

  test("a wildcard covers any depth below it and not itself", () => {
    const pattern = parseHostname("*.bar.global")!;
    expect(covers(pattern, parseHostname("a.bar.global")!)).toBe(true);
    expect(covers(pattern, parseHostname("x.a.bar.global")!)).toBe(true);
    expect(covers(pattern, parseHostname("bar.global")!)).toBe(false);
    expect(covers(pattern, parseHostname("foobar.global")!)).toBe(false);
  });
});

describe("addresses", () => {
  test("IPv6 is written one way", () => expect(parseIp("2001:DB8:0:0:0:0:0:1")).toBe("2001:db8::1"));
  for (const text of ["", "1.2.3", "1.2.3.4.5", "fe80::1%eth0", "::g", "01.2.3.4", "1.2.3.4/8"]) {
    test(`"${text}" is no address`, () => expect(parseIp(text)).toBeUndefined());
  }
  test("a range contains what is in it, of its own family", () => {
    const range = parseCidr("240.0.0.0/4")!;
    expect(cidrContains(range, parseIp("240.0.0.2")!)).toBe(true);
    expect(cidrContains(range, parseIp("10.0.0.2")!)).toBe(false);
    expect(cidrContains(range, parseIp("::1")!)).toBe(false);
  });
  for (const text of ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/a", "::/129", "10.0.0.0/8/8"]) {
    test(`"${text}" is no range`, () => expect(parseCidr(text)).toBeUndefined());
  }
  const virtual = [
    ["224.0.0.1", "multicast"],
    ["239.255.255.255", "multicast"],
    ["127.0.0.1", "loopback"],
    ["0.0.0.0", "unspecified"],
    ["ff02::1", "multicast"],
    ["::1", "loopback"],
    ["240.0.0.2", undefined],
    ["10.0.0.1", undefined],
  ] as const;
  for (const [ip, problem] of virtual) {
    test(`${ip} as a virtual address: ${problem ?? "fine"}`, () =>
      expect(virtualAddressProblem(parseIp(ip)!)).toBe(problem));
  }
  test("an address with a port, either family", () => {
    expect(parseSocketAddress("[::1]:80")).toEqual({ ip: "::1", port: 80 });
    expect(parseSocketAddress("1.2.3.4:65536")).toBeUndefined();
    expect(parseSocketAddress("::1:80")).toBeUndefined();
  });
});

describe("identities", () => {
  test("a workload's identity is one", () =>
    expect(parseSpiffeId("spiffe://cluster.local/ns/foo/sa/sleep")).toBeDefined());
  const bad = [
    "spiffe://cluster.local",
    "spiffe://cluster.local/ns/foo/sa/",
    "spiffe://cluster.local/ns/foo/sa/y/../z",
    "spiffe://cluster.local/ns/../sa/z",
    "spiffe://Cluster.Local/ns/foo/sa/z",
    "spiffe://cluster.local/ns/foo/sa/z\u0000",
    "https://cluster.local/ns/foo/sa/z",
    `spiffe://a/ns/${"x".repeat(2048)}/sa/z`,
  ];
  for (const text of bad) test(`"${text.slice(0, 50)}" is none`, () => expect(parseSpiffeId(text)).toBeUndefined());
});

describe("traffic names", () => {
  const name = outbound("httpbin.bar.global", 8000, "v2");
  test("both forms come back as they went", () => {
    expect(clusterName(name)).toBe("outbound|8000|v2|httpbin.bar.global");
    expect(sniName(name)).toBe("outbound_.8000_.v2_.httpbin.bar.global");
    expect(parseClusterName(clusterName(name))).toEqual(name);
    expect(parseClusterName(clusterName({ ...name, http: true }))).toEqual({ ...name, http: true });
    expect(parseSniName(sniName(name))).toEqual(name);
    expect(parseSniName("outbound_.8000_._.httpbin.bar.global")).toEqual(outbound("httpbin.bar.global", 8000));
  });
  for (const text of ["", "httpbin.bar.global", "outbound_.x_._.a", "outbound_.80_._", "sideways_.80_._.a"]) {
    test(`"${text}" is none`, () => expect(parseSniName(text)).toBeUndefined());
  }
});

describe("protocols of Service ports", () => {
  const rows = [
    { port: 80, name: "http", gets: "http" },
    { port: 80, name: "http-web", gets: "http" },
    { port: 80, name: "grpc-web-x", gets: "grpc-web" },
    { port: 80, name: "HTTP2", gets: "http2" },
    { port: 80, name: "web", gets: "unset" },
    { port: 3306, name: "db", gets: "tcp" },
    { port: 80, name: "tcp", appProtocol: "http", gets: "http" },
    { port: 80, name: "http", appProtocol: "kubernetes.io/h2c", gets: "http2" },
    { port: 53, name: "http", protocol: "UDP", gets: "udp" },
  ];
  for (const { gets, ...port } of rows)
    test(`${JSON.stringify(port)} speaks ${gets}`, () => expect(protocolOfServicePort(port)).toBe(gets));
});

test("a selector selects what has all its pairs", () => {
  expect(selects({ app: "a" }, { app: "a", version: "v1" })).toBe(true);
  expect(selects({ app: "a", version: "v2" }, { app: "a", version: "v1" })).toBe(false);
  expect(selects({}, {})).toBe(true);
});

test("an origin names object and place", () => {
  const origin = { cluster: "c", kind: "ServiceEntry", namespace: "foo", name: "x", file: "a.yaml", line: 3 };
  expect(formatOrigin(origin)).toBe("ServiceEntry foo/x (a.yaml:3)");
});
