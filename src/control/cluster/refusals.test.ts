import { describe, expect, test } from "vitest";
import type { Receipt } from "../../ads/index.ts";
import {
  type Board,
  boardStep,
  merged,
  type Refusal,
  readRefusals,
  refusalsElsewhere,
  refusalsOf,
  writeRefusals,
} from "./refusals.ts";

const refusal = (over: Partial<Refusal> = {}): Refusal => ({
  object: "ServiceEntry foo/a",
  resource: "outbound|80||a.global",
  proxy: "sidecar~1",
  reason: "I am a teapot",
  ...over,
});
const origin = { cluster: "cluster1", kind: "ServiceEntry", namespace: "foo", name: "a" };

function receiptOf(proxy: string, resources: ReadonlyArray<{ name: string; origins: readonly object[] }>): Receipt {
  const refused = resources.map(({ name, origins }) => [
    name,
    { name, version: "1", origins, reason: "I am a teapot", atMs: 0 },
  ]);
  return { proxy, typeUrl: "t", refused: new Map(refused as never) } as unknown as Receipt;
}

test("of receipts, what was made of objects of the API counts, once however many proxies refuse it", () => {
  const all = () => [
    receiptOf("sidecar~2", [{ name: "outbound|80||a.global", origins: [origin] }]),
    receiptOf("sidecar~1", [
      { name: "outbound|80||a.global", origins: [origin, { ...origin, name: "b" }, { ...origin, file: "a.yaml" }] },
      { name: "made-of-nothing", origins: [] },
    ]),
  ];
  expect(refusalsOf({ all })).toEqual([refusal(), refusal({ object: "ServiceEntry foo/b" })]);
  expect(refusalsOf({ all: () => all().reverse() })).toEqual(refusalsOf({ all }));
});

describe("what is published", () => {
  test("is read as it was written, and is nothing when there is nothing", () => {
    const two = merged([refusal(), refusal({ reason: 'says "no"\n\u2028é' })]);
    expect(readRefusals(writeRefusals(two))).toEqual(two);
    expect(writeRefusals([])).toBe("");
  });

  test("is bounded: five of one object, and 32 KiB of all", () => {
    const many = Array.from({ length: 50 }, (_, at) => refusal({ resource: `r${at}` }));
    expect(readRefusals(writeRefusals([...many, refusal({ object: "Gateway foo/b" })]))).toHaveLength(6);
    const objects = Array.from({ length: 1_000 }, (_, at) =>
      refusal({ object: `Gateway foo/${at}`, reason: "é".repeat(500) }),
    );
    const text = writeRefusals(objects);
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(32 * 1024);
    expect(readRefusals(text).length).toBeGreaterThan(20);
  });

  for (const [it, text] of [
    ["no JSON", "{"],
    ["no list", '{"object": 1}'],
    ["no text", 7],
    ["a list of other things", '[null, 1, {"object": "a"}, []]'],
  ] as const)
    test(`${it} is nothing`, () => expect(readRefusals(text)).toEqual([]));
});

describe("what other replicas publish", () => {
  const text = (...refusals: readonly Refusal[]) => writeRefusals(refusals);
  const rows: ReadonlyArray<{
    readonly it: string;
    readonly board: Board | undefined;
    readonly gone?: readonly string[];
    readonly gives: readonly Refusal[];
  }> = [
    { it: "nothing, where there is no ConfigMap", board: undefined, gives: [] },
    { it: "nothing, where it is somebody else's", board: { ours: false, data: { b: text(refusal()) } }, gives: [] },
    {
      it: "what all of them say, once, but not one's own",
      board: {
        ours: true,
        data: {
          a: text(refusal({ resource: "mine" })),
          b: text(refusal({ proxy: "sidecar~3" })),
          c: text(refusal({ proxy: "sidecar~2" }), refusal({ resource: "z" })),
        },
      },
      gives: [refusal({ proxy: "sidecar~2" }), refusal({ resource: "z" })],
    },
    {
      it: "nothing of a replica that is gone",
      board: { ours: true, data: { b: text(refusal()), c: text(refusal({ resource: "z" })) } },
      gone: ["b"],
      gives: [refusal({ resource: "z" })],
    },
    {
      it: "the rest, where one part cannot be read",
      board: { ours: true, data: { b: "{", c: text(refusal()) } },
      gives: [refusal()],
    },
  ];
  for (const { it, board, gone = [], gives } of rows)
    test(it, () => {
      expect(refusalsElsewhere(board, { me: "a", isThere: (replica) => !gone.includes(replica) })).toEqual(gives);
    });
});

describe("what a replica does about its own part", () => {
  const ours = (data: Board["data"]): Board => ({ ours: true, data });
  const rows: ReadonlyArray<readonly [string, Board | undefined, string, ReturnType<typeof boardStep>]> = [
    ["nothing refused, no ConfigMap", undefined, "", "none"],
    ["nothing refused, nothing said", ours({ b: "x" }), "", "none"],
    ["nothing refused any more", ours({ a: "x" }), "", "clear"],
    ["nothing refused, somebody else's", { ours: false, data: { a: "x" } }, "", "none"],
    ["the first refusal of all", undefined, "x", "create"],
    ["the first of this replica", ours({ b: "x" }), "x", "set"],
    ["another than before", ours({ a: "y" }), "x", "set"],
    ["said already", ours({ a: "x" }), "x", "none"],
    ["somebody else's", { ours: false, data: {} }, "x", "foreign"],
  ];
  for (const [it, board, wanted, step] of rows)
    test(`${it}: ${step}`, () => expect(boardStep(board, { me: "a", wanted })).toBe(step));
});
