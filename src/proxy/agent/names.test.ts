import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { NameTable_NameInfoSchema, NameTableSchema } from "../../proto/gen/isthmus/nds/v1/nds_pb.js";
import { parseHostname } from "../../values/index.ts";
import { Names } from "./names.ts";
import { nameResolver } from "./resolver.ts";

const told = (host: string, ips: readonly string[], version = "1") => ({
  name: host,
  version,
  bytes: toBinary(
    NameTableSchema,
    create(NameTableSchema, { table: { [host]: create(NameTable_NameInfoSchema, { ips: [...ips] }) } }),
  ),
});
const names = () => new Names({ suffixes: [parseHostname("global")!], searches: [] });

describe("the names that were told", () => {
  test("are answered, and forgotten when they are removed", () => {
    const one = names();
    expect(one.apply([told("httpbin.bar.global", ["240.0.0.2"])], [])).toEqual([]);
    expect(one.addressesOf("HTTPBIN.bar.global.")).toEqual(["240.0.0.2"]);
    one.apply([], ["httpbin.bar.global"]);
    expect(one.addressesOf("httpbin.bar.global")).toEqual([]);
    expect(one.dump()).toEqual([]);
  });

  test("that cannot be read are refused one by one, and the last good value of each stays and is what is kept", () => {
    const one = names();
    const good = told("httpbin.bar.global", ["240.0.0.2"]);
    one.apply([good], []);
    const refusals = one.apply(
      [
        told("httpbin.bar.global", ["not an address"], "2"),
        { name: "x", version: "1", bytes: new Uint8Array([255, 255]) },
        told("reviews.bar.global", ["240.0.0.3"]),
      ],
      [],
    );
    expect(refusals.map(({ name }) => name)).toEqual(["httpbin.bar.global", "x"]);
    expect(refusals[0]?.reason).toContain('"not an address"');
    expect(one.addressesOf("httpbin.bar.global")).toEqual(["240.0.0.2"]);
    expect(one.dump()).toEqual([good, told("reviews.bar.global", ["240.0.0.3"])]);
  });

  test("go into another run as they came", () => {
    const first = names();
    first.apply([told("a.global", ["240.0.0.1"]), told("b.global", ["240.0.0.2", "fd00::2"])], []);
    const second = names();
    expect(second.apply(first.dump(), [])).toEqual([]);
    expect(second.addressesOf("b.global")).toEqual(["240.0.0.2", "fd00::2"]);
  });

  test("of one family have no address of the other, and nobody else is asked", async () => {
    const one = names();
    one.apply([told("httpbin.bar.global", ["240.0.0.2"])], []);
    const resolve = nameResolver({ names: one, servers: [] });
    expect(await resolve("httpbin.bar.global", 4)).toEqual({ addresses: ["240.0.0.2"], ttlMs: undefined });
    expect(await resolve("httpbin.bar.global", 6)).toEqual({ addresses: [], ttlMs: undefined });
  });
});
