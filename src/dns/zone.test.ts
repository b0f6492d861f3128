import { describe, expect, test } from "vitest";
import { parseHostname, parseIp } from "../values/index.ts";
import { type Answer, buildZone, emptyZone, type RecordType, resolve, reverseName, type Zone } from "./zone.ts";

const named = (name: string, ...addresses: string[]) => ({
  name: parseHostname(name)!,
  addresses: addresses.map((address) => parseIp(address)!),
});

const zone = buildZone({
  suffixes: [parseHostname("global")!, parseHostname("cluster.local")!],
  searches: ["foo.svc.cluster.local", "Global."],
  names: [
    { ...named("httpbin.bar.global", "240.0.0.2"), ports: [{ name: "http1", transport: "tcp", port: 8000 }] },
    named("both.bar.global", "240.0.0.3", "2001:2::3"),
    named("*.wild.global", "240.0.0.4"),
    named("exact.wild.global", "240.0.0.5"),
    named("*.deep.wild.global", "240.0.0.6"),
    named("x.y.z.global", "240.0.0.7"),
    named("api.example.com", "240.0.0.8"),
    named("empty.bar.global"),
  ],
});

function show(answer: Answer): string {
  const alias = "alias" in answer && answer.alias ? `${answer.alias}: ` : "";
  if (answer.kind !== "records") return alias + answer.kind;
  const { set } = answer;
  switch (set.type) {
    case "A":
    case "AAAA":
      return `${alias}${set.addresses.join(" ")}`;
    case "SRV":
      return `${alias}${set.target}:${set.ports[0]!.port}`;
    case "PTR":
      return set.target;
    case "SOA":
    case "NS":
      return set.type;
  }
}

const rows: ReadonlyArray<{ it: string; name: string; type: RecordType; gets: string; in?: Zone }> = [
  { it: "a name with an address", name: "httpbin.bar.global", type: "A", gets: "240.0.0.2" },
  { it: "a name without a record of the type", name: "httpbin.bar.global", type: "AAAA", gets: "no-data" },
  { it: "a name with both families", name: "both.bar.global", type: "AAAA", gets: "2001:2::3" },
  { it: "HTTPS of a name", name: "httpbin.bar.global", type: "SVCB", gets: "no-data" },
  { it: "ANY of a name", name: "httpbin.bar.global", type: "ANY", gets: "no-data" },
  { it: "a name that is not there", name: "nothing.bar.global", type: "A", gets: "no-name" },
  { it: "a name outside the zone", name: "example.com", type: "A", gets: "not-ours" },
  { it: "a name that only ends like a suffix", name: "notglobal", type: "A", gets: "not-ours" },
  {
    it: "a name whose escaped dot makes it look like ours",
    name: "httpbin.bar\\046global",
    type: "A",
    gets: "not-ours",
  },
  { it: "a name above others", name: "bar.global", type: "A", gets: "no-data" },
  { it: "a name above others, two levels up", name: "z.global", type: "A", gets: "no-data" },
  { it: "a name that a wildcard covers", name: "a.wild.global", type: "A", gets: "240.0.0.4" },
  { it: "a name that a wildcard covers at depth", name: "a.b.wild.global", type: "A", gets: "240.0.0.4" },
  { it: "a name that two wildcards cover", name: "a.deep.wild.global", type: "A", gets: "240.0.0.6" },
  { it: "an exact name below a wildcard", name: "exact.wild.global", type: "A", gets: "240.0.0.5" },
  { it: "the wildcard's own suffix", name: "wild.global", type: "A", gets: "no-data" },
  { it: "the suffix itself", name: "global", type: "A", gets: "no-data" },
  { it: "the suffix's SOA", name: "global", type: "SOA", gets: "SOA" },
  { it: "the suffix's name servers", name: "cluster.local", type: "NS", gets: "NS" },
  { it: "a port's SRV", name: "_http1._tcp.httpbin.bar.global", type: "SRV", gets: "httpbin.bar.global:8000" },
  { it: "the name above an SRV", name: "_tcp.httpbin.bar.global", type: "SRV", gets: "no-data" },
  { it: "an address's name", name: "2.0.0.240.in-addr.arpa", type: "PTR", gets: "httpbin.bar.global" },
  { it: "an address of nobody here", name: "1.0.0.10.in-addr.arpa", type: "PTR", gets: "not-ours" },
  { it: "a name elsewhere that the mesh serves", name: "api.example.com", type: "A", gets: "240.0.0.8" },
  { it: "its AAAA", name: "api.example.com", type: "AAAA", gets: "no-data" },
  { it: "its HTTPS, which would lead around the mesh", name: "api.example.com", type: "SVCB", gets: "no-data" },
  { it: "its TXT, which is not ours to say", name: "api.example.com", type: "other", gets: "not-ours" },
  {
    it: "a name with a search domain",
    name: "httpbin.bar.global.foo.svc.cluster.local",
    type: "A",
    gets: "httpbin.bar.global: 240.0.0.2",
  },
  {
    it: "the AAAA of a name with a search domain",
    name: "httpbin.bar.global.foo.svc.cluster.local",
    type: "AAAA",
    gets: "httpbin.bar.global: no-data",
  },
  {
    it: "a name with the suffix twice",
    name: "httpbin.bar.global.global",
    type: "A",
    gets: "httpbin.bar.global: 240.0.0.2",
  },
  {
    it: "a name elsewhere with a search domain",
    name: "api.example.com.global",
    type: "A",
    gets: "api.example.com: 240.0.0.8",
  },
  { it: "another name with a search domain", name: "www.foo.svc.cluster.local", type: "A", gets: "no-name" },
  { it: "a name without addresses", name: "empty.bar.global", type: "A", gets: "no-data" },
  {
    it: "a name of ours before all names are known",
    name: "httpbin.bar.global",
    type: "A",
    gets: "not-yet",
    in: emptyZone([parseHostname("global")!]),
  },
  {
    it: "an odd name below a wildcard, with a search domain",
    name: "\\000.wild.global.global",
    type: "A",
    gets: "no-name",
  },
  { it: "the root", name: "", type: "NS", gets: "not-ours" },
];

describe("resolve", () => {
  for (const { it, name, type, gets, in: other } of rows) {
    test(`${it} gets ${gets}`, () => expect(show(resolve(other ?? zone, name, type))).toBe(gets));
  }
  test("a name that did not change keeps its records from zone to zone", () => {
    const entry = named("a.b.global", "240.0.0.9");
    const [one, two] = [1, 2].map((serial) =>
      buildZone({ names: [entry], suffixes: [parseHostname("global")!], serial }),
    );
    expect(two!.exact.get("a.b.global")!.sets.A).toBe(one!.exact.get("a.b.global")!.sets.A);
  });
});

test("an IPv6 address reads backwards by half bytes", () => {
  expect(reverseName(parseIp("2001:2::f")!)).toBe(
    "f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa",
  );
});
