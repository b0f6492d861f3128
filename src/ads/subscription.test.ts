import { describe, expect, test } from "vitest";
import { typeUrls, type Versioned } from "../proto/index.ts";
import { PushQueue } from "./push.ts";
import { blame, Receipts, receiptState } from "./receipts.ts";
import { Session } from "./session.ts";
import { type Ask, createSubscription } from "./subscription.ts";

const resource = (name: string, version = "1"): Versioned => ({ name, version, bytes: new Uint8Array(), origins: [] });
const resources = (...names: readonly string[]) =>
  new Map(names.map((text) => [text.split("@")[0]!, resource(text.split("@")[0]!, text.split("@")[1] ?? "1")]));

const delta = (fields: Partial<Extract<Ask, { protocol: "delta" }>> = {}): Ask => ({
  protocol: "delta",
  nonce: "",
  error: undefined,
  subscribe: [],
  unsubscribe: [],
  held: new Map(),
  ...fields,
});
const sotw = (names: readonly string[], nonce = "", error?: string): Ask => ({ protocol: "sotw", nonce, error, names });

/** What one type says to a list of requests, each acknowledged: `name@version`, or `-name` for what is removed. */
function talk(typeUrl: string, asks: readonly Ask[], have: ReadonlyMap<string, Versioned>): (string | undefined)[] {
  const subscription = createSubscription(asks[0]!.protocol, typeUrl);
  return asks.map((ask, i) => {
    subscription.accept(ask);
    const response = subscription.respond({ resources: have, nonce: `n${i}`, phase: "break" });
    if (!response) return undefined;
    const names = ask.protocol === "sotw" ? ask.names : [];
    subscription.accept(ask.protocol === "delta" ? delta({ nonce: `n${i}` }) : sotw(names, `n${i}`));
    const said = response.resources.map(({ name, version }) => `${name}@${version}`);
    return [...said, ...response.removed.map((name) => `-${name}`)].join(" ");
  });
}

describe("a delta subscription", () => {
  const { cluster, endpoints } = typeUrls;
  const rows = [
    { it: "that names nothing wants all clusters", type: cluster, asks: [delta()], says: ["a@1 b@1"] },
    { it: "that names nothing wants no endpoints", type: endpoints, asks: [delta()], says: [undefined] },
    { it: "with a star wants all", type: endpoints, asks: [delta({ subscribe: ["*"] })], says: ["a@1 b@1"] },
    { it: "with a name gets that", type: cluster, asks: [delta({ subscribe: ["a"] })], says: ["a@1"] },
    { it: "to what is not there is told so", type: cluster, asks: [delta({ subscribe: ["x"] })], says: ["-x"] },
    {
      it: "repeated is answered again",
      type: cluster,
      asks: [delta({ subscribe: ["a"] }), delta({ subscribe: ["a"] })],
      says: ["a@1", "a@1"],
    },
    {
      it: "of a client that holds some of it is told only the rest and what is gone",
      type: cluster,
      asks: [
        delta({
          subscribe: ["*"],
          held: new Map([
            ["a", "1"],
            ["b", "0"],
            ["old", "1"],
          ]),
        }),
      ],
      says: ["b@1 -old"],
    },
    {
      it: "by name, of a client that holds it all, is told nothing",
      type: endpoints,
      asks: [delta({ subscribe: ["a"], held: new Map([["a", "1"]]) })],
      says: [undefined],
    },
    {
      it: "to all, of a client that holds it all, is told that this is all",
      type: cluster,
      asks: [
        delta({
          held: new Map([
            ["a", "1"],
            ["b", "1"],
          ]),
        }),
      ],
      says: [""],
    },
    {
      it: "to all that lets go of one name is told of it anew, since all still means it",
      type: cluster,
      asks: [delta({ subscribe: ["*", "a"] }), delta({ unsubscribe: ["a"] })],
      says: ["a@1 b@1", "a@1"],
    },
    {
      it: "that drops the star keeps its names",
      type: cluster,
      asks: [delta({ subscribe: ["*", "a"] }), delta({ unsubscribe: ["*"] }), delta({ subscribe: ["b"] })],
      says: ["a@1 b@1", undefined, "b@1"],
    },
    {
      it: "let go and taken up again is answered",
      type: endpoints,
      asks: [delta({ subscribe: ["a"] }), delta({ unsubscribe: ["a"] }), delta({ subscribe: ["a"] })],
      says: ["a@1", undefined, "a@1"],
    },
  ];
  for (const { it, type, asks, says } of rows)
    test(it, () => expect(talk(type, asks, resources("a", "b"))).toEqual(says));

  test("says nothing more until the last response is answered, and then all that came meanwhile at once", () => {
    const subscription = createSubscription("delta", cluster);
    subscription.accept(delta());
    const say = (have: ReturnType<typeof resources>, nonce: string) =>
      subscription.respond({ resources: have, nonce, phase: "break" })?.resources.map(({ version }) => version);
    expect(say(resources("a@1", "b@1"), "1")).toEqual(["1", "1"]);
    expect(say(resources("a@2", "b@1"), "2")).toBeUndefined();
    expect(say(resources("a@3", "b@3"), "2")).toBeUndefined();
    expect(subscription.accept(delta({ nonce: "0" })).kind).toBe("stale");
    expect(say(resources("a@3", "b@3"), "2")).toBeUndefined();
    expect(subscription.accept(delta({ nonce: "1" })).kind).toBe("acked");
    expect(say(resources("a@3", "b@3"), "2")).toEqual(["3", "3"]);
  });
});

describe("a state-of-the-world subscription", () => {
  const { cluster, endpoints } = typeUrls;
  const rows = [
    { it: "that names nothing wants all clusters", type: cluster, asks: [sotw([])], says: ["a@1 b@1"] },
    { it: "that names nothing wants no endpoints", type: endpoints, asks: [sotw([])], says: [""] },
    { it: "to what is not there gets an answer without it", type: endpoints, asks: [sotw(["x"])], says: [""] },
    {
      it: "that names more endpoints gets those",
      type: endpoints,
      asks: [sotw(["a"]), sotw(["a", "b"], "n0")],
      says: ["a@1", "b@1"],
    },
    {
      it: "that names more clusters gets all it named",
      type: cluster,
      asks: [sotw(["a"]), sotw(["a", "b"], "n0")],
      says: ["a@1", "a@1 b@1"],
    },
    {
      it: "that stops naming clusters wants none, not all",
      type: cluster,
      asks: [sotw(["a"]), sotw([], "n0")],
      says: ["a@1", undefined],
    },
    { it: "with a star beside names wants all", type: cluster, asks: [sotw(["a", "*"])], says: ["a@1 b@1"] },
  ];
  for (const { it, type, asks, says } of rows)
    test(it, () => expect(talk(type, asks, resources("a", "b"))).toEqual(says));

  test("is not sent again what it refused, until it changes", () => {
    const subscription = createSubscription("sotw", cluster);
    subscription.accept(sotw([]));
    const say = (have: ReturnType<typeof resources>, nonce: string) =>
      subscription.respond({ resources: have, nonce, phase: "break" })?.resources.length;
    expect(say(resources("a@1"), "1")).toBe(1);
    expect(subscription.accept(sotw([], "1", "no")).kind).toBe("refused");
    expect(say(resources("a@1"), "2")).toBeUndefined();
    expect(say(resources("a@2"), "2")).toBe(1);
  });
});

describe("a session", () => {
  const limits = { maxNames: 3, maxTypes: 2 };
  test("makes before it breaks: new clusters first, listeners when those are taken, old clusters last", () => {
    const session = new Session("delta", { maxNames: 10, maxTypes: 10 });
    for (const typeUrl of [typeUrls.listener, typeUrls.cluster]) session.hear(typeUrl, delta());
    const before = new Map([
      [typeUrls.cluster, resources("old")],
      [typeUrls.listener, resources("l@1")],
    ]);
    const after = new Map([
      [typeUrls.cluster, resources("new")],
      [typeUrls.listener, resources("l@2")],
    ]);
    const said: string[] = [];
    const say = (snapshot: typeof before): boolean => {
      const next = session.next(snapshot);
      if (!next) return false;
      said.push(
        `${next.typeUrl.split(".").at(-1)} ${[...next.resources.map(({ name }) => name), ...next.removed.map((name) => `-${name}`)]}`,
      );
      // Nothing else before this one is answered, since all that follows points at it or was pointed at by it.
      if (next.typeUrl === typeUrls.cluster) expect(session.next(snapshot)).toBeUndefined();
      session.hear(next.typeUrl, delta({ nonce: next.nonce }));
      return true;
    };
    while (say(before));
    while (say(after));
    expect(said).toEqual(["Cluster old", "Listener l", "Cluster new", "Listener l", "Cluster -old"]);
  });

  test("refuses more names and more types than it may hold", () => {
    const session = new Session("delta", limits);
    expect(session.hear("a", delta({ subscribe: ["1", "2", "3", "4"] })).kind).toBe("excessive");
    expect(session.hear("a", delta({ subscribe: ["1", "2"] })).kind).toBe("subscribed");
    expect(session.hear("a", delta({ subscribe: ["3", "4"] })).kind).toBe("excessive");
    expect(session.hear("b", delta()).kind).toBe("subscribed");
    expect(session.hear("c", delta()).kind).toBe("excessive");
  });
});

describe("a refusal is blamed on", () => {
  const sent = ["outbound|80||a.global", "outbound|80|v1|a.global", "0.0.0.0_8000", "a", "a.b"].map((name) =>
    resource(name),
  );
  const rows = [
    {
      it: "the name in it",
      reason: "Error adding/updating cluster(s) outbound|80||a.global: bad",
      names: ["outbound|80||a.global"],
    },
    { it: "the name at its end", reason: "bad listener 0.0.0.0_8000", names: ["0.0.0.0_8000"] },
    { it: "two names", reason: "a: bad\n0.0.0.0_8000: bad", names: ["0.0.0.0_8000", "a"] },
    { it: "no part of a longer name", reason: 'cannot take "a.b"', names: ["a.b"] },
    { it: "a name before a full stop", reason: "I will not take a.", names: ["a"] },
    { it: "nobody when it names none", reason: "out of memory", names: [] },
  ];
  for (const { it, reason, names } of rows)
    test(it, () => expect(blame(reason, sent).map(({ name }) => name)).toEqual(names));
  test("the only one that was sent", () => expect(blame("out of memory", [resource("x")])).toHaveLength(1));
});

test("a receipt stays refusing while other resources are taken, until the refused one is", () => {
  const receipts = new Receipts();
  const at = { proxy: "p", typeUrl: typeUrls.cluster, atMs: 1 };
  const response = (nonce: string, ...texts: readonly string[]) => ({
    nonce,
    resources: [...resources(...texts).values()],
    removed: [],
  });
  const state = () => receiptState(receipts.of("p").get(typeUrls.cluster)!);
  receipts.sent(at, response("1", "a@1", "b@1"), 10);
  expect(state()).toBe("waiting");
  receipts.refused(at, response("1", "a@1", "b@1"), "a: bad");
  expect(state()).toBe("refusing");
  receipts.sent(at, response("2", "b@2"), 10);
  receipts.acked(at, response("2", "b@2"));
  expect(state()).toBe("refusing");
  receipts.sent(at, response("3", "a@2"), 10);
  receipts.acked(at, response("3", "a@2"));
  expect(state()).toBe("synced");
  receipts.forget("p");
  expect(receipts.all()).toEqual([]);
});

describe("the queue of pushes", () => {
  test("has so many at work, each once, whoever waits longest first, and never loses news", async () => {
    const queue = new PushQueue({ maxAtOnce: 2 });
    const began: string[] = [];
    const finish = new Map<string, () => void>();
    const proxy = (name: string) => ({
      flush: () => {
        began.push(name);
        return new Promise<void>((resolve) => finish.set(name, resolve));
      },
    });
    const turns = async () => {
      for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
    };
    const [a, b, c] = [proxy("a"), proxy("b"), proxy("c")];
    for (const one of [a, b, c, a, a]) queue.need(one);
    await turns();
    expect(began).toEqual(["a", "b"]);
    queue.need(a);
    queue.need(a);
    await turns();
    expect(began).toEqual(["a", "b"]);
    finish.get("a")!();
    await turns();
    expect(began).toEqual(["a", "b", "c"]);
    finish.get("b")!();
    await turns();
    expect(began).toEqual(["a", "b", "c", "a"]);
    finish.get("a")!();
    finish.get("c")!();
    await turns();
    expect(queue.waiting).toBe(0);
  });
});
