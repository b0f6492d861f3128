import { expect, onTestFinished, test } from "vitest";
import { Scope, silentLogger, systemClock } from "../base/index.ts";
import { accessOf, FakeClock, type FakeKubeApi, fakeKubeApi } from "../testing/index.ts";
import { createKubeClient } from "./client.ts";
import { type Mandate, startLeader } from "./leader.ts";

const leases = "/apis/coordination.k8s.io/v1/leases";

/** A contender over the wire, whose time is held; what it led, and when. */
function over(api: FakeKubeApi, me: string, clock: FakeClock) {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const client = createKubeClient({ access: accessOf(api), clock: systemClock, env: {}, userAgent: me }, scope);
  let mandate: Mandate | undefined;
  const leader = startLeader(
    {
      client,
      namespace: "isthmus-system",
      name: "isthmus-leader",
      labels: { "app.kubernetes.io/managed-by": "isthmus" },
      me,
      lead(given) {
        mandate = given;
      },
      clock,
      random: () => 0,
      log: silentLogger,
    },
    scope,
  );
  return { leader, scope, leads: () => mandate?.holds() === true && !mandate.scope.closed };
}

/** Moves time on in small steps, with real time for answers in between. */
async function pass(clock: FakeClock, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 500) {
    await clock.advanceAsync(500);
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => systemClock.after(3, () => resolve(undefined)));
  }
}

const quick = { timeout: 3_000, interval: 5 };

test("of two contenders one leads; when it stops, the other does at once", async () => {
  const api = await fakeKubeApi();
  api.serve(leases);
  const clock = new FakeClock();
  const a = over(api, "a", clock);
  await expect.poll(a.leads, quick).toBe(true);
  const b = over(api, "b", clock);
  await pass(clock, 20_000);
  expect([a.leads(), b.leads()]).toEqual([true, false]);
  expect(b.leader.state.value).toEqual({ kind: "following", holder: "a" });
  await a.scope.close();
  expect(api.get(leases, "isthmus-system/isthmus-leader")?.["spec"]).toMatchObject({ holderIdentity: "" });
  await pass(clock, 3_000);
  expect([a.leads(), b.leads()]).toEqual([false, true]);
  expect(api.get(leases, "isthmus-system/isthmus-leader")?.["spec"]).toMatchObject({
    holderIdentity: "b",
    leaseTransitions: 1,
  });
});

test("a leader that cannot renew has stopped before another begins", async () => {
  const api = await fakeKubeApi();
  api.serve(leases);
  const clock = new FakeClock();
  const a = over(api, "a", clock);
  await expect.poll(a.leads, quick).toBe(true);
  // The lease as b sees it changes no more: a is cut off, b is not.
  const other = await fakeKubeApi();
  other.serve(leases);
  other.put(leases, api.get(leases, "isthmus-system/isthmus-leader") as never);
  const b = over(other, "b", clock);
  await pass(clock, 2_000);
  api.away(true);
  let both = 0;
  for (let passed = 0; passed < 20_000; passed += 500) {
    await pass(clock, 500);
    if (a.leads() && b.leads()) both++;
  }
  expect(both).toBe(0);
  expect([a.leads(), b.leads()]).toEqual([false, true]);
  expect(a.leader.problem.value?.code).toBe("kube/unreachable");
  api.away(false);
  await pass(clock, 3_000);
  expect(a.leads()).toBe(true);
});

test("who may not touch leases never leads, and says which right it lacks", async () => {
  const api = await fakeKubeApi();
  api.serve(leases);
  api.refuse("/apis/coordination.k8s.io/v1/namespaces/isthmus-system/leases/isthmus-leader", 403);
  const clock = new FakeClock();
  const a = over(api, "a", clock);
  await expect.poll(() => a.leader.problem.value?.code, quick).toBe("kube/forbidden");
  expect(a.leads()).toBe(false);
});

test("a lease that somebody deleted is made again", async () => {
  const api = await fakeKubeApi();
  api.serve(leases);
  const clock = new FakeClock();
  const a = over(api, "a", clock);
  await expect.poll(a.leads, quick).toBe(true);
  api.remove(leases, "isthmus-system/isthmus-leader");
  await pass(clock, 3_000);
  expect(api.get(leases, "isthmus-system/isthmus-leader")).toBeDefined();
  expect(a.leads()).toBe(true);
});
