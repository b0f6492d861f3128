import { expect, onTestFinished, test } from "vitest";
import { Receipts } from "../../ads/index.ts";
import { Cell, Scope, silentLogger } from "../../base/index.ts";
import { createKubeClient } from "../../kube/index.ts";
import { resourceKey } from "../../resources/index.ts";
import type { ResourceView } from "../../sources/index.ts";
import { accessOf, FakeClock, type FakeKubeApi, fakeKubeApi } from "../../testing/index.ts";
import { SortedMap } from "../../values/index.ts";
import { Trouble } from "./duty.ts";
import { ownLabels } from "./names.ts";
import { startRefusalBoard } from "./refusal-board.ts";
import { readRefusals } from "./refusals.ts";

const maps = "/api/v1/configmaps";
const mapName = "isthmus-system/isthmus-refusals";
const patience = { timeout: 20_000, interval: 1 };
const origin = { cluster: "cluster1", kind: "ServiceEntry", namespace: "foo", name: "a" };

/** The system namespace, with these pods, where time moves when told. */
async function scene(pods: readonly string[]) {
  const api = await fakeKubeApi();
  api.serve(maps);
  const clock = new FakeClock();
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const client = createKubeClient({ access: accessOf(api), clock, env: {}, userAgent: "test" }, scope);
  const viewOf = (names: readonly string[]) => {
    const place = { cluster: "cluster1", kind: "Pod", namespace: "isthmus-system" } as const;
    const Pod = SortedMap.empty().with(
      names.map((name) => [resourceKey({ ...place, name }), { status: { phase: "Running" } }]),
    );
    return { byKind: { Pod } } as unknown as ResourceView;
  };
  const replica = (me: string) => {
    const view = new Cell(viewOf(pods));
    const receipts = new Receipts();
    const parts = { client, clock, random: () => 0.5, log: silentLogger };
    const board = startRefusalBoard(
      {
        ...parts,
        systemNamespace: "isthmus-system",
        me,
        cluster: "cluster1",
        store: { view },
        receipts,
      },
      scope,
    );
    const mandate = { scope: scope.child(), holds: () => true };
    return {
      board,
      proxy: proxyOf(receipts),
      /** Which pods it sees from now on. */
      sees: (...names: readonly string[]) => view.set(viewOf(names)),
      lead: () => board.tidy({ ...parts, mandate, trouble: new Trouble(silentLogger) }),
    };
  };
  /** Moves time on, with time for the wire at each step. */
  const pass = async (ms: number, stepMs = 500): Promise<void> => {
    for (let passed = 0; passed < ms; passed += stepMs) {
      clock.advance(stepMs);
      await turn();
    }
  };
  /** To be asked again and again: what is there so much later. */
  const after =
    <T>(ms: number, of: () => T) =>
    async (): Promise<T> => {
      await pass(ms);
      return of();
    };
  return { api, replica, pass, after };
}

/** What a proxy says of one resource made of ServiceEntry foo/a. */
function proxyOf(receipts: Receipts) {
  const at = { proxy: "sidecar~1", typeUrl: "t", atMs: 0 };
  const response = {
    nonce: "n",
    resources: [{ name: "r", version: "1", bytes: new Uint8Array(), origins: [origin] }],
    removed: [],
  };
  return (reason: string | undefined) => {
    receipts.sent(at, response, 0);
    if (reason === undefined) receipts.acked(at, response);
    else receipts.refused(at, response, reason);
  };
}

/** Until what was sent over loopback has been answered, as far as it can be told. */
async function turn(): Promise<void> {
  for (let at = 0; at < 5; at++) await new Promise((resolve) => setImmediate(resolve));
}

const said = (api: FakeKubeApi, pod: string) =>
  readRefusals((api.get(maps, mapName)?.["data"] as Record<string, string> | undefined)?.[pod]).map(
    ({ object, reason }) => `${object}: ${reason}`,
  );

test("the first refusal makes the ConfigMap, a burst is written once, and what is taken back is taken out", async () => {
  const { api, replica, pass, after } = await scene(["a"]);
  const { board, proxy } = replica("a");
  await board.heard;
  proxy(undefined);
  await pass(20_000);
  for (const reason of ["one", "two", "three"]) proxy(reason);
  await expect
    .poll(
      after(500, () => said(api, "a")),
      patience,
    )
    .toEqual(["ServiceEntry foo/a: three"]);
  expect((api.get(maps, mapName)!["metadata"] as { labels: object }).labels).toEqual(ownLabels);
  expect(api.writes.map(({ method }) => method)).toEqual(["POST"]);
  proxy(undefined);
  await expect
    .poll(
      after(500, () => api.get(maps, mapName)?.["data"]),
      patience,
    )
    .toEqual({});
  expect(api.writes.map(({ method }) => method)).toEqual(["POST", "PATCH"]);
});

test("a proxy that cannot decide costs a write in five seconds, and its last word is there in the end", async () => {
  const { api, replica, pass, after } = await scene(["a"]);
  const { board, proxy } = replica("a");
  await board.heard;
  for (let at = 0; at < 40; at++) {
    proxy(`reason ${at}`);
    await pass(1_500);
  }
  await expect
    .poll(
      after(500, () => said(api, "a")),
      patience,
    )
    .toEqual(["ServiceEntry foo/a: reason 39"]);
  expect(api.writes.length).toBeLessThanOrEqual(60 / 5 + 2);
});

test("what somebody deletes or changes is put right; somebody else's ConfigMap is left, and that is said", async () => {
  const { api, replica, after } = await scene(["a"]);
  const { board, proxy } = replica("a");
  await board.heard;
  proxy("no");
  const there = after(500, () => said(api, "a"));
  await expect.poll(there, patience).toEqual(["ServiceEntry foo/a: no"]);
  api.remove(maps, mapName);
  await expect.poll(there, patience).toEqual(["ServiceEntry foo/a: no"]);
  const found = api.get(maps, mapName)!;
  api.put(maps, { ...found, metadata: found["metadata"] as object, data: { a: "mine", b: "{" } });
  await expect.poll(there, patience).toEqual(["ServiceEntry foo/a: no"]);
  api.put(maps, { metadata: { namespace: "isthmus-system", name: "isthmus-refusals" }, data: { mine: "1" } });
  await expect
    .poll(
      after(500, () => board.trouble.lines().map(({ code }) => code)),
      patience,
    )
    .toEqual(["control/foreign-object"]);
  expect(api.get(maps, mapName)?.["data"]).toEqual({ mine: "1" });
});

test("what one replica's proxy refuses is heard by the other; with the pod it goes, after a while for good", async () => {
  const { api, replica, pass, after } = await scene(["a", "b"]);
  const [a, b] = [replica("a"), replica("b")];
  await Promise.all([a.board.heard, b.board.heard]);
  a.lead();
  b.proxy("no");
  const heard = after(500, () => a.board.elsewhere.value.map(({ reason }) => reason));
  await expect.poll(heard, patience).toEqual(["no"]);
  expect(b.board.elsewhere.value).toEqual([]);
  a.sees("a");
  expect(a.board.elsewhere.value).toEqual([]);
  await pass(10_000);
  a.sees("a", "b");
  expect(a.board.elsewhere.value.map(({ reason }) => reason)).toEqual(["no"]);
  await pass(25_000);
  expect(said(api, "b")).toEqual(["ServiceEntry foo/a: no"]);
  // Gone for good; as b is alive here, it says so again: what was taken away too early comes back.
  a.sees("a");
  const taken = () => api.writes.filter(({ body }) => (body["data"] as { b?: unknown } | undefined)?.b === null);
  await pass(25_000);
  expect(taken()).toEqual([]);
  await expect
    .poll(
      after(1_000, () => taken().length),
      patience,
    )
    .toBe(1);
  await expect
    .poll(
      after(500, () => said(api, "b")),
      patience,
    )
    .toEqual(["ServiceEntry foo/a: no"]);
});

test("a control plane that is no pod of the namespace publishes nothing, and hears the others", async () => {
  const { api, replica, pass, after } = await scene(["b"]);
  const [outside, b] = [replica("outside"), replica("b")];
  await Promise.all([outside.board.heard, b.board.heard]);
  outside.proxy("no");
  b.proxy("never");
  await expect
    .poll(
      after(500, () => outside.board.elsewhere.value.map(({ reason }) => reason)),
      patience,
    )
    .toEqual(["never"]);
  await pass(20_000);
  expect(Object.keys(api.get(maps, mapName)?.["data"] as object)).toEqual(["b"]);
});

test("while the ConfigMap may not be read nobody waits for it, and that is said", async () => {
  const { api, replica } = await scene(["a"]);
  api.refuse("/api/v1/namespaces/isthmus-system/configmaps", 403);
  const { board } = replica("a");
  await board.heard;
  expect(board.trouble.lines().map(({ code, severity }) => `${severity} ${code}`)).toEqual(["warning kube/forbidden"]);
});
