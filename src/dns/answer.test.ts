import dnsPacket, { type Packet } from "dns-packet";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseHostname, parseIp } from "../values/index.ts";
import { respond } from "./answer.ts";
import { buildZone } from "./zone.ts";

const many = Array.from({ length: 100 }, (_, i) => parseIp(`240.1.0.${i + 1}`)!);
const zone = buildZone({
  suffixes: [parseHostname("global")!],
  searches: ["foo.svc.cluster.local"],
  serial: 7,
  names: [
    {
      name: parseHostname("httpbin.bar.global")!,
      addresses: [parseIp("240.0.0.2")!, parseIp("2001:2::9")!],
      ports: [{ name: "http1", transport: "tcp", port: 8000 }],
    },
    { name: parseHostname("many.bar.global")!, addresses: many },
    { name: parseHostname("*.wild.global")!, addresses: [parseIp("240.0.0.5")!] },
    { name: parseHostname("*.example.com")!, addresses: [parseIp("240.0.0.6")!] },
    { name: parseHostname("four.bar.global")!, addresses: [parseIp("240.0.0.4")!] },
  ],
});

interface Asked {
  readonly name: string;
  readonly type?: string;
  readonly id?: number;
  readonly edns?: { readonly size?: number; readonly version?: number };
  readonly transport?: "udp" | "tcp";
}

function queryBytes({ name, type = "A", id = 0, edns }: Asked): Buffer {
  const additionals = edns
    ? [
        {
          type: "OPT",
          name: ".",
          udpPayloadSize: edns.size ?? 1232,
          extendedRcode: 0,
          ednsVersion: edns.version ?? 0,
          flags: 0,
          flag_do: false,
          options: [],
        },
      ]
    : [];
  return dnsPacket.encode({
    type: "query",
    id,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ type: type as "A", name }],
    additionals: additionals as never,
  });
}

function ask(asked: Asked): Packet & { rcode: string; bytes: Buffer; flag_aa: boolean; flag_tc: boolean } {
  const response = respond(queryBytes(asked), { zone, transport: asked.transport ?? "udp", recursion: false });
  if (response.kind !== "reply") throw new Error(`no reply but ${response.kind}`);
  return { ...dnsPacket.decode(response.bytes), bytes: response.bytes } as never;
}

const addresses = (packet: Packet) => packet.answers!.map((answer) => (answer as { data: unknown }).data);

describe("replies, read by another library", () => {
  test("an A record carries the address, our authority and the TTL", () => {
    const reply = ask({ name: "httpbin.bar.global", id: 4711 });
    expect(reply).toMatchObject({ id: 4711, rcode: "NOERROR", flag_aa: true });
    expect(reply.answers).toMatchObject([{ type: "A", name: "httpbin.bar.global", ttl: 30, data: "240.0.0.2" }]);
  });
  test("an AAAA record carries the address", () => {
    expect(addresses(ask({ name: "httpbin.bar.global", type: "AAAA" }))).toEqual(["2001:2::9"]);
  });
  test("the name comes back in the case in which it was asked", () => {
    const reply = ask({ name: "HttpBin.BAR.gLoBaL" });
    expect(reply.questions![0]!.name).toBe("HttpBin.BAR.gLoBaL");
    expect(reply.answers).toMatchObject([{ name: "HttpBin.BAR.gLoBaL", data: "240.0.0.2" }]);
  });
  for (const type of ["AAAA", "HTTPS", "SVCB", "ANY", "TXT", "MX", "CAA"]) {
    test(`${type} for a name with an A record only is no data, with the zone's SOA`, () => {
      const bytes = queryBytes({ name: "four.bar.global" });
      // The other library does not know all types by name.
      const number = { AAAA: 28, HTTPS: 65, SVCB: 64, ANY: 255, TXT: 16, MX: 15, CAA: 257 }[type]!;
      bytes.writeUInt16BE(number, bytes.length - 4);
      const response = respond(bytes, { zone, transport: "udp", recursion: false });
      const reply = dnsPacket.decode((response as { bytes: Buffer }).bytes) as unknown as Packet & { rcode: string };
      expect(reply.rcode).toBe("NOERROR");
      expect(reply.answers).toEqual([]);
      expect(reply.authorities).toMatchObject([
        { type: "SOA", name: "global", ttl: 5, data: { serial: 7, minimum: 5 } },
      ]);
    });
  }
  test("a name that is not there is denied, with the zone's SOA", () => {
    const reply = ask({ name: "nothing.bar.global", edns: {} });
    expect(reply.rcode).toBe("NXDOMAIN");
    expect(reply.authorities).toMatchObject([{ type: "SOA", name: "global" }]);
  });
  test("a name of somebody else is refused when there is nobody to ask", () => {
    expect(ask({ name: "example.com" }).rcode).toBe("REFUSED");
  });
  test("a name of somebody else is handed on when there is somebody to ask", () => {
    const response = respond(queryBytes({ name: "example.com" }), { zone, transport: "udp", recursion: true });
    expect(response).toMatchObject({ kind: "forward", query: { name: "example.com", type: 1 } });
  });
  test("a search domain is answered by the alias and its address at once", () => {
    expect(ask({ name: "httpbin.bar.global.foo.svc.cluster.local" }).answers).toMatchObject([
      { type: "CNAME", name: "httpbin.bar.global.foo.svc.cluster.local", data: "httpbin.bar.global" },
      { type: "A", name: "httpbin.bar.global", data: "240.0.0.2" },
    ]);
  });
  test("a search domain without data is answered by the alias and the SOA of where it leads", () => {
    const reply = ask({ name: "four.bar.global.foo.svc.cluster.local", type: "AAAA" });
    expect(reply.answers).toMatchObject([{ type: "CNAME", data: "four.bar.global" }]);
    expect(reply.authorities).toMatchObject([{ type: "SOA", name: "global" }]);
  });
  test("SRV, PTR, SOA and NS are there", () => {
    expect(ask({ name: "_http1._tcp.httpbin.bar.global", type: "SRV" }).answers).toMatchObject([
      { data: { port: 8000, target: "httpbin.bar.global" } },
    ]);
    expect(ask({ name: "2.0.0.240.in-addr.arpa", type: "PTR" }).answers).toMatchObject([
      { data: "httpbin.bar.global" },
    ]);
    expect(ask({ name: "global", type: "SOA" }).answers).toMatchObject([{ type: "SOA", name: "global" }]);
    expect(ask({ name: "global", type: "NS" }).answers).toMatchObject([{ type: "NS", data: "ns.global" }]);
  });
  test("another id starts at another address", () => {
    const first = (id: number) => addresses(ask({ name: "many.bar.global", id, transport: "tcp" }))[0];
    expect([first(0), first(1), first(100)]).toEqual(["240.1.0.1", "240.1.0.2", "240.1.0.1"]);
  });
});

describe("sizes", () => {
  const rows = [
    { it: "no EDNS", edns: undefined, transport: "udp", limit: 512, whole: false },
    { it: "EDNS below the least", edns: { size: 100 }, transport: "udp", limit: 512, whole: false },
    { it: "EDNS 600", edns: { size: 600 }, transport: "udp", limit: 600, whole: false },
    { it: "EDNS 4096, of which 1232 are used", edns: { size: 4096 }, transport: "udp", limit: 1232, whole: false },
    { it: "TCP", edns: undefined, transport: "tcp", limit: 65535, whole: true },
  ] as const;
  for (const { it, edns, transport, limit, whole } of rows) {
    test(`${it}: ${whole ? "all of it" : `cut to at most ${limit} bytes, and says so`}`, () => {
      const reply = ask({ name: "many.bar.global", transport, ...(edns ? { edns } : {}) });
      expect(reply.bytes.length).toBeLessThanOrEqual(limit);
      expect(reply.bytes.length).toBeGreaterThan(whole ? 1600 : limit - 20);
      expect(reply.flag_tc).toBe(!whole);
      expect(reply.answers!.length === 100).toBe(whole);
      expect(reply.additionals!.length).toBe(edns ? 1 : 0);
    });
  }
});

describe("what is no good query", () => {
  const good = queryBytes({ name: "httpbin.bar.global", edns: {} });
  const change = (edit: (bytes: Buffer) => Buffer | undefined) => {
    const bytes = Buffer.from(good);
    return edit(bytes) ?? bytes;
  };
  const withTail = (bytes: Buffer, ...tail: number[]) => Buffer.concat([bytes, Buffer.from(tail)]);
  const plain = queryBytes({ name: "httpbin.bar.global" });
  const rows = [
    { it: "a reply", bytes: change((b) => void b.writeUInt16BE(0x8000, 2)), gets: "drop" },
    { it: "eleven bytes", bytes: good.subarray(0, 11), gets: "drop" },
    { it: "an UPDATE", bytes: change((b) => void b.writeUInt16BE(5 << 11, 2)), gets: 4 },
    { it: "no question", bytes: change((b) => void b.writeUInt16BE(0, 4)), gets: 1 },
    { it: "two questions", bytes: change((b) => void b.writeUInt16BE(2, 4)), gets: 1 },
    { it: "a pointer for a name", bytes: change((b) => void b.writeUInt16BE(0xc00c, 12)), gets: 1 },
    { it: "a label of 64 bytes", bytes: change((b) => void b.writeUInt8(64, 12)), gets: 1 },
    {
      it: "a second OPT",
      bytes: change((b) => {
        b.writeUInt16BE(2, 10);
        return withTail(b, ...good.subarray(-11));
      }),
      gets: 1,
    },
    {
      it: "an OPT with a name",
      bytes: (() => {
        const b = withTail(plain, 1, 97, ...good.subarray(-11));
        b.writeUInt16BE(1, 10);
        return b;
      })(),
      gets: 1,
    },
    {
      it: "an option longer than its record",
      bytes: change((b) => {
        b.writeUInt16BE(4, b.length - 2);
        return withTail(b, 0, 1, 0, 9);
      }),
      gets: 1,
    },
    {
      it: "an option that nobody knows",
      bytes: change((b) => {
        b.writeUInt16BE(5, b.length - 2);
        return withTail(b, 255, 1, 0, 1, 7);
      }),
      gets: 0,
    },
    { it: "EDNS version 1", bytes: queryBytes({ name: "httpbin.bar.global", edns: { version: 1 } }), gets: 16 },
    {
      it: "class CH",
      bytes: (() => {
        const b = Buffer.from(plain);
        b.writeUInt16BE(3, b.length - 2);
        return b;
      })(),
      gets: 5,
    },
    {
      it: "a transfer of the zone",
      bytes: (() => {
        const b = queryBytes({ name: "global" });
        b.writeUInt16BE(252, b.length - 4);
        return b;
      })(),
      gets: 5,
    },
    { it: "a good one", bytes: good, gets: 0 },
  ] as const;
  for (const { it, bytes, gets } of rows) {
    test(`${it} gets ${gets === "drop" ? "no answer" : `code ${gets}`}`, () => {
      const response = respond(bytes, { zone, transport: "udp", recursion: false });
      if (response.kind !== "reply") {
        expect(response.kind).toBe(gets);
        return;
      }
      const reply = response.bytes;
      const opt = reply.readUInt16BE(10) > 0 ? reply.subarray(-11) : undefined;
      expect((reply[3]! & 15) + (opt ? opt[5]! * 16 : 0)).toBe(gets);
      expect(reply.readUInt16BE(0)).toBe(bytes.readUInt16BE(0));
      expect(() => dnsPacket.decode(reply)).not.toThrow();
    });
  }
  test("a name of 255 bytes is read, one of 256 is not", () => {
    const label = (length: number) => [length, ...Buffer.alloc(length, 97)];
    const query = (last: number) =>
      Buffer.from([...plain.subarray(0, 12), ...label(63), ...label(63), ...label(63), ...label(last), 0, 0, 1, 0, 1]);
    const code = (bytes: Buffer) => {
      const response = respond(bytes, { zone, transport: "udp", recursion: false });
      return response.kind === "reply" ? response.bytes[3]! & 15 : response.kind;
    };
    expect(code(query(61))).toBe(5);
    expect(code(query(62))).toBe(1);
  });
  test("a name of 255 bytes that each need an escape is read too", () => {
    const label = (length: number) => [length, ...Buffer.alloc(length, 0xff)];
    const bytes = Buffer.from([
      ...plain.subarray(0, 12),
      ...label(63),
      ...label(63),
      ...label(63),
      ...label(61),
      0,
      0,
      1,
      0,
      1,
    ]);
    expect(respond(bytes, { zone, transport: "udp", recursion: true })).toMatchObject({
      kind: "forward",
      query: { name: expect.stringMatching(/^(\\255){63}\./) },
    });
  });
});

describe("hostile bytes", () => {
  const seeds = [
    queryBytes({ name: "httpbin.bar.global", edns: { size: 4096 } }),
    queryBytes({ name: "many.bar.global" }),
    queryBytes({ name: "x.httpbin.bar.global.foo.svc.cluster.local", type: "SRV", edns: {} }),
    queryBytes({ name: "x.wild.global.foo.svc.cluster.local", type: "AAAA" }),
    queryBytes({ name: "x.y.example.com", type: "AAAA" }),
    queryBytes({ name: "four.bar.global.foo.svc.cluster.local", type: "AAAA" }),
  ];
  /** Whatever comes: no throw, and a reply that another library can read, no longer than allowed. */
  function survives(bytes: Buffer): void {
    const response = respond(bytes, { zone, transport: "udp", recursion: true });
    if (response.kind !== "reply") return;
    expect(response.bytes.length).toBeLessThanOrEqual(1232);
    dnsPacket.decode(response.bytes);
  }
  test("every prefix of a query is answered or dropped", () => {
    for (const seed of seeds) for (let length = 0; length <= seed.length; length++) survives(seed.subarray(0, length));
  });
  test("queries with bytes changed, cut out and put in are answered or dropped", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...seeds),
        fc.array(fc.record({ at: fc.nat(80), byte: fc.nat(255), how: fc.constantFrom("set", "cut", "put") }), {
          maxLength: 6,
        }),
        (seed, edits) => {
          let bytes = Buffer.from(seed);
          for (const { at, byte, how } of edits) {
            if (how === "set" && at < bytes.length) bytes[at] = byte;
            if (how === "cut") bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]);
            if (how === "put") bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([byte]), bytes.subarray(at)]);
          }
          survives(bytes);
        },
      ),
      { numRuns: 3000 },
    );
  });
  test("random bytes are answered or dropped", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => survives(Buffer.from(bytes))),
      { numRuns: 2000 },
    );
  });
});
