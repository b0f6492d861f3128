import dnsPacket from "dns-packet";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeClock } from "../testing/index.ts";
import { lifetimeOf, ReplyCache } from "./cache.ts";
import { type Query, readQuery } from "./packet.ts";

function query(
  name: string,
  options: { id?: number; edns?: boolean; cookie?: boolean } = {},
): { bytes: Buffer; query: Query } {
  const opt = {
    type: "OPT",
    name: ".",
    udpPayloadSize: 1232,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    options: options.cookie ? [{ code: 10, data: Buffer.from("12345678") }] : [],
  };
  const bytes = dnsPacket.encode({
    type: "query",
    id: options.id ?? 1,
    flags: 256,
    questions: [{ type: "A", name }],
    additionals: (options.edns || options.cookie ? [opt] : []) as never,
  });
  const reading = readQuery(bytes);
  if (reading.kind !== "query") throw new Error("no query");
  return { bytes, query: reading.query };
}

function reply(
  name: string,
  parts: { ttls?: readonly number[]; rcode?: number; soa?: [ttl: number, minimum: number] },
): Buffer {
  const soa = parts.soa && {
    type: "SOA" as const,
    name: "com",
    ttl: parts.soa[0],
    data: { mname: "a.com", rname: "b.com", serial: 1, refresh: 1, retry: 1, expire: 1, minimum: parts.soa[1] },
  };
  return dnsPacket.encode({
    type: "response",
    id: 99,
    flags: 0x180 | (parts.rcode ?? 0),
    questions: [{ type: "A", name }],
    answers: (parts.ttls ?? []).map((ttl) => ({ type: "A", name, ttl, data: "192.0.2.1" })),
    authorities: soa ? [soa] : [],
  });
}

describe("how long a reply is kept, in seconds", () => {
  const rows = [
    { it: "the least TTL", given: reply("a.com", { ttls: [60, 20, 40] }), gets: 20 },
    { it: "an hour at most", given: reply("a.com", { ttls: [1e6] }), gets: 3600 },
    { it: "a TTL with its top bit set", given: reply("a.com", { ttls: [0xffffffff] }), gets: 0 },
    { it: "no such name: the SOA's minimum", given: reply("a.com", { rcode: 3, soa: [60, 9] }), gets: 9 },
    { it: "no such name: the SOA's TTL", given: reply("a.com", { rcode: 3, soa: [8, 90] }), gets: 8 },
    { it: "no such name: five minutes at most", given: reply("a.com", { rcode: 3, soa: [9000, 9000] }), gets: 300 },
    { it: "no data", given: reply("a.com", { soa: [60, 11] }), gets: 11 },
    { it: "no data, without an SOA", given: reply("a.com", {}), gets: undefined },
    { it: "a failure", given: reply("a.com", { rcode: 2, ttls: [60] }), gets: undefined },
  ];
  for (const { it, given, gets } of rows) {
    test(`${it}: ${gets}`, () => expect(lifetimeOf(given, query("a.com").query.questionEnd)?.ttlS).toBe(gets));
  }
  test("a reply with any bytes is measured or not kept", () => {
    const whole = reply("a.com", { ttls: [60, 20], soa: [1, 2] });
    for (let length = 23; length < whole.length; length++)
      expect(lifetimeOf(whole.subarray(0, length), 23)).toBeUndefined();
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 23, maxLength: 300 }), (bytes) => void lifetimeOf(Buffer.from(bytes), 23)),
    );
  });
});

describe("ReplyCache", () => {
  test("a reply comes back with this client's id and spelling, and TTLs that count down, until it is over", () => {
    const clock = new FakeClock();
    const cache = new ReplyCache({ clock });
    cache.put(query("a.com").query, reply("a.com", { ttls: [60, 20] }));
    clock.advance(15_500);
    const again = query("A.Com", { id: 7 });
    const got = dnsPacket.decode(cache.get(again.query, again.bytes)!);
    expect(got).toMatchObject({ id: 7, questions: [{ name: "A.Com" }], answers: [{ ttl: 45 }, { ttl: 5 }] });
    clock.advance(5_000);
    expect(cache.get(again.query, again.bytes)).toBeUndefined();
    expect(cache.size).toBe(0);
  });
  test("one without EDNS is not given a reply made for one with it", () => {
    const cache = new ReplyCache({ clock: new FakeClock() });
    cache.put(query("a.com", { edns: true }).query, reply("a.com", { ttls: [60] }));
    const plain = query("a.com");
    expect(cache.get(plain.query, plain.bytes)).toBeUndefined();
  });
  test("a reply to a client's own cookie is not kept", () => {
    const cache = new ReplyCache({ clock: new FakeClock() });
    cache.put(query("a.com", { cookie: true }).query, reply("a.com", { ttls: [60] }));
    expect(cache.size).toBe(0);
  });
  test("the least recently used goes first", () => {
    const cache = new ReplyCache({ clock: new FakeClock(), mostEntries: 2 });
    const put = (name: string) => cache.put(query(name).query, reply(name, { ttls: [60] }));
    const has = (name: string) => cache.get(query(name).query, query(name).bytes) !== undefined;
    put("a.com");
    put("b.com");
    expect(has("a.com")).toBe(true);
    put("c.com");
    expect([has("a.com"), has("b.com"), has("c.com")]).toEqual([true, false, true]);
  });
  test("bytes are bounded too", () => {
    const cache = new ReplyCache({ clock: new FakeClock(), mostBytes: 200 });
    for (const name of ["a.com", "b.com", "c.com", "d.com", "e.com"])
      cache.put(query(name).query, reply(name, { ttls: [60] }));
    expect(cache.size).toBeLessThan(5);
    expect(cache.size).toBeGreaterThan(0);
  });
});
