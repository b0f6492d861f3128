import { expect, onTestFinished, test } from "vitest";
import { Scope, systemClock } from "../base/index.ts";
import { type FakeKubeApi, fakeKubeApi } from "../testing/index.ts";
import { createKubeClient } from "./client.ts";
import type { Change, ReflectorHealth } from "./reflector.ts";
import { startReflector } from "./reflector.ts";

const path = "/api/v1/services";

/** A reader of services and what it has been told, with waits that are short. */
async function reading(prepare: (api: FakeKubeApi) => void = () => {}) {
  const api = await fakeKubeApi();
  api.serve(path);
  prepare(api);
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const access = {
    name: "test",
    server: api.url,
    authority: undefined,
    serverName: undefined,
    insecure: false,
    namespace: "default",
    credentials: { kind: "none" },
  } as const;
  const client = createKubeClient({ access, clock: systemClock, env: {}, userAgent: "isthmus-test" }, scope);
  const known = new Map<string, string>();
  const health: ReflectorHealth[] = [];
  let lists = 0;
  // Waits pass at a twentieth of their length; what they are is the clock's to know.
  const clock = { ...systemClock, after: (ms: number, run: () => void) => systemClock.after(ms / 20, run) };
  const take = (change: Change<string>) =>
    change.kind === "set" ? known.set(change.name, change.value) : known.delete(change.name);
  startReflector<string>(
    {
      client,
      collection: { group: "", version: "v1", plural: "services", kind: "Service" },
      read: (object) => String((object["spec"] as { v?: unknown } | undefined)?.v),
      sink: {
        listed(all) {
          lists++;
          known.clear();
          for (const [name, value] of all) known.set(name, value);
        },
        changed: (changes) => void changes.forEach(take),
        health: (news) => void health.push(news),
      },
      clock,
      random: () => 0.5,
    },
    scope,
  );
  const shows = (expected: Record<string, string>) =>
    expect.poll(() => Object.fromEntries(known), { timeout: 5_000, interval: 5 }).toEqual(expected);
  const watches = () => expect.poll(() => api.watching(path), { timeout: 5_000, interval: 5 }).toBe(1);
  return { api, scope, known, health, shows, watches, lists: () => lists };
}

function service(name: string, v: number | string) {
  return { metadata: { namespace: "foo", name }, spec: { v } };
}

test("lists what there is, then follows what is set and deleted", async () => {
  const { api, shows, watches } = await reading((api) => api.put(path, service("a", 1)));
  await shows({ "foo/a": "1" });
  await watches();
  api.put(path, service("b", 1));
  api.put(path, service("a", 2));
  await shows({ "foo/a": "2", "foo/b": "1" });
  api.remove(path, "foo/a");
  await shows({ "foo/b": "1" });
});

test("reads a long list in pages, of one moment", async () => {
  const { api, known } = await reading((api) => {
    for (let i = 0; i < 1_234; i++) api.put(path, service(`s${i}`, i));
  });
  await expect.poll(() => known.size).toBe(1_234);
  expect(api.requests.filter((line) => line.includes("limit=500"))).toHaveLength(3);
});

test("begins a list anew when its moment is forgotten half-way", async () => {
  const { api, known, lists } = await reading((api) => {
    for (let i = 0; i < 600; i++) api.put(path, service(`s${i}`, i));
    api.failNext(0, 410);
  });
  await expect.poll(() => known.size, { timeout: 5_000 }).toBe(600);
  expect(lists()).toBe(1);
  expect(api.requests.length).toBeGreaterThan(3);
});

test.each(["closed", "cut"] as const)("goes on from the last version seen when a watch is %s", async (how) => {
  const { api, shows, watches, lists } = await reading((api) => api.put(path, service("a", 1)));
  await watches();
  api.put(path, service("a", 2));
  await shows({ "foo/a": "2" });
  api.endWatches(how);
  api.put(path, service("a", 3));
  await shows({ "foo/a": "3" });
  expect(lists()).toBe(1);
  expect(api.requests.at(-1)).toContain("resourceVersion=3");
});

test("goes on from a bookmark, so that a quiet kind need not be listed again after compaction", async () => {
  const { api, shows, watches, lists } = await reading();
  api.serve("/api/v1/pods");
  await watches();
  api.put("/api/v1/pods", service("other", 1));
  api.compact();
  api.bookmark();
  await expect.poll(() => api.requests.length).toBeGreaterThan(0);
  await new Promise<void>((resolve) => setImmediate(resolve));
  api.endWatches("closed");
  await watches();
  api.put(path, service("a", 1));
  await shows({ "foo/a": "1" });
  expect(lists()).toBe(1);
});

test("lists again when the server forgot the version, and what vanished meanwhile is gone", async () => {
  const { api, shows, watches, lists, health } = await reading((api) => {
    api.put(path, service("a", 1));
    api.put(path, service("b", 1));
  });
  await watches();
  api.away(true);
  api.remove(path, "foo/a");
  api.compact();
  api.away(false);
  await shows({ "foo/b": "1" });
  expect(lists()).toBe(2);
  await watches();
  expect(health.filter(({ kind }) => kind === "behind").length).toBeLessThan(2);
});

test("while the server is away, what was told stays, and that it is away is said; then all is current again", async () => {
  const { api, shows, watches, health, known } = await reading((api) => api.put(path, service("a", 1)));
  await watches();
  api.away(true);
  await expect.poll(() => health.at(-1)?.kind, { timeout: 5_000 }).toBe("behind");
  expect(Object.fromEntries(known)).toEqual({ "foo/a": "1" });
  const [first] = health;
  expect(first?.kind === "behind" && first.failure.code).toBe("kube/unreachable");
  api.away(false);
  api.put(path, service("a", 2));
  await shows({ "foo/a": "2" });
  expect(health.at(-1)).toEqual({ kind: "current" });
});

test.each([
  ["no JSON", "nonsense"],
  ["an unknown type", '{"type":"GOSSIP","object":{"metadata":{"name":"a"}}}'],
  ["no object", '{"type":"ADDED"}'],
  ["an error that is not 410", '{"type":"ERROR","object":{"code":500,"message":"etcd is tired"}}'],
])("a watch that says %s is begun again and loses nothing", async (_name, line) => {
  const { api, shows, watches, lists } = await reading();
  await watches();
  api.say(line);
  api.put(path, service("a", 1));
  await shows({ "foo/a": "1" });
  expect(lists()).toBe(1);
});

test("a server that refuses is asked again, less and less often, and not at all after the end", async () => {
  const { api, scope, shows, watches, health } = await reading((api) => {
    api.put(path, service("a", 1));
    api.failNext(403, 500, 503);
  });
  await shows({ "foo/a": "1" });
  expect(health.map((news) => (news.kind === "behind" ? news.failure.code : news.kind))).toEqual([
    "kube/forbidden",
    "kube/server-error",
    "kube/server-error",
    "current",
  ]);
  await watches();
  await scope.close();
  const asked = api.requests.length;
  api.endWatches("closed");
  await new Promise((resolve) => setImmediate(resolve));
  expect(api.requests).toHaveLength(asked);
});
