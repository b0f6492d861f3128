import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../e2e/isthmus.ts";
import { startCaller } from "./caller.ts";
import { type Clusters, missingForClusters, takeClusters } from "./clusters.ts";
import {
  createCacerts,
  directEntry,
  expectAnswer,
  install,
  makeCertificates,
  startExample,
  variables,
} from "./install-steps.ts";
import { becomes, type Inventory, inventoryAtRest, takeInventory } from "./inventory.ts";

const missing = missingForClusters();
const both = "--context $CTX_CLUSTER1 --context $CTX_CLUSTER2";
const upgrade = `isthmus upgrade --to canary --yes ${both}`;
/** Where the two of the example run: the variable of their cluster, and their namespace. */
const example = [
  { context: "$CTX_CLUSTER1", namespace: "foo", deployment: "sleep" },
  { context: "$CTX_CLUSTER2", namespace: "bar", deployment: "httpbin" },
] as const;

interface ProxyPod {
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  readonly spec: Readonly<
    Record<
      "containers" | "initContainers",
      ReadonlyArray<{ readonly name: string; readonly args?: readonly string[] }> | undefined
    >
  >;
}

/** A new release beside the old one, then in its place, as docs/kubernetes.md tells it. Each step stands on the one before. */
describe("a revision beside another, and in its place", { retry: 0 }, () => {
  if (missing) {
    test("runs", ({ skip }) => skip(missing));
    return;
  }
  let clusters: Clusters;
  let caller: Awaited<ReturnType<typeof startCaller>>;
  const before = new Map<string, Inventory>();
  beforeAll(async () => {
    clusters = await takeClusters();
    for (const context of clusters.contexts) before.set(context, await inventoryAtRest(clusters, context));
    await makeCertificates(clusters);
    await createCacerts(clusters);
    await install(clusters);
    await startExample(clusters);
    await clusters.must(variables + directEntry);
    await expectAnswer(clusters);
  }, 900_000);
  afterAll(() => clusters?.stop());

  /** Whom the proxies of the pods that an app's label selects ask. */
  async function asked(context: string, namespace: string, app: string): Promise<readonly string[]> {
    const text = await clusters.must(`kubectl get --context=${context} -n ${namespace} pods -l app=${app} -o json`);
    const { items } = JSON.parse(text) as { readonly items: readonly ProxyPod[] };
    return items.map(({ spec: { containers = [], initContainers = [] } }) => {
      const args = [...initContainers, ...containers].find(({ name }) => name === "istio-proxy")?.args ?? [];
      return args[args.indexOf("--discovery") + 1] ?? "nobody";
    });
  }

  async function noCallFailed(): Promise<void> {
    const { answered, failed } = await caller.calls();
    expect(failed).toEqual([]);
    expect(answered).toBeGreaterThan(0);
  }

  test("installed beside, it has a control plane of its own and nothing of the old one changes", async () => {
    caller = await startCaller(clusters);
    await install(clusters, "--revision canary");
    for (const context of clusters.contexts) {
      const names = await clusters.must(
        `kubectl get --context=${context} -n isthmus-system deployments -o jsonpath='{.items[*].metadata.name}'`,
      );
      expect(names.split(" ").sort()).toEqual([
        "isthmus",
        "isthmus-canary",
        "isthmus-egressgateway",
        "isthmus-ingressgateway",
      ]);
      for (const app of ["isthmus-ingressgateway", "isthmus-egressgateway"])
        expect(await asked(context, "isthmus-system", app)).toEqual(["isthmus.isthmus-system.svc:15012"]);
    }
    await noCallFailed();
  }, 600_000);

  test("a namespace that is labelled with it gets its proxies when pods are made anew", async () => {
    for (const { context, namespace, deployment } of example) {
      await clusters.must(
        `kubectl label --context=${context} namespace ${namespace} istio-injection- istio.io/rev=canary
         kubectl rollout restart --context=${context} -n ${namespace} deployment/${deployment}
         kubectl rollout status --context=${context} -n ${namespace} deployment/${deployment} --timeout=180s`,
        { timeoutMs: 240_000 },
      );
      await eventually(
        () => asked(context, namespace, deployment),
        (all) => all.length === 1 && all[0] === "isthmus-canary.isthmus-system.svc:15012",
        120_000,
      );
    }
    await expectAnswer(clusters);
  }, 600_000);

  test("made the default, gateways move to it without a failed call, and what stays behind is told", async () => {
    // Answers that have come once more are of the new pods.
    await eventually(
      () => caller.calls(),
      ({ answered, failed }) => answered > 0 && failed.length === 0,
      60_000,
    );
    const said = await clusters.must(upgrade, { timeoutMs: 400_000 });
    for (const context of clusters.contexts)
      for (const app of ["isthmus-ingressgateway", "isthmus-egressgateway"])
        await eventually(
          () => asked(context, "isthmus-system", app),
          (all) => all.length === 1 && all[0] === "isthmus-canary.isthmus-system.svc:15012",
          120_000,
        );
    await noCallFailed();
    expect(said).toContain('still on "default": foo: 1 pod (caller-');
    await expectAnswer(clusters);
  }, 800_000);

  test("istio-injection=enabled means the new one now, and each pod gets one proxy", async () => {
    await clusters.must(
      `
      kubectl create --context=$CTX_CLUSTER1 namespace later
      kubectl label --context=$CTX_CLUSTER1 namespace later istio-injection=enabled
      kubectl apply --context=$CTX_CLUSTER1 -n later -f samples/sleep/sleep.yaml
      kubectl rollout status --context=$CTX_CLUSTER1 -n later deployment/sleep --timeout=180s`,
      { timeoutMs: 240_000 },
    );
    expect(await asked("$CTX_CLUSTER1", "later", "sleep")).toEqual(["isthmus-canary.isthmus-system.svc:15012"]);
    await clusters.must("kubectl delete --context=$CTX_CLUSTER1 namespace later --timeout=110s");
  });

  test("the old one is not removed while a pod uses it", async () => {
    const { code, stdout, stderr } = await clusters.sh(`${upgrade} --remove-old`, { timeoutMs: 400_000 });
    expect(code, stdout + stderr).not.toBe(0);
    expect(stdout + stderr).toContain('revision "default" is still in use');
    expect(
      await clusters.must("kubectl get --context=$CTX_CLUSTER1 -n isthmus-system deployment isthmus -o name"),
    ).toBe("deployment.apps/isthmus");
  }, 600_000);

  test("with the last pod moved it is removed, and no call fails", async () => {
    await clusters.must(
      `kubectl rollout restart --context=$CTX_CLUSTER1 -n foo deployment/caller
       kubectl rollout status --context=$CTX_CLUSTER1 -n foo deployment/caller --timeout=180s`,
      { timeoutMs: 240_000 },
    );
    await eventually(
      () => asked("$CTX_CLUSTER1", "foo", "caller"),
      (all) => all.length === 1 && all[0] === "isthmus-canary.isthmus-system.svc:15012",
      120_000,
    );
    caller = await startCaller(clusters);
    await clusters.must(`${upgrade} --remove-old`, { timeoutMs: 400_000 });
    for (const context of clusters.contexts) {
      // A gateway's Deployment keeps what it was before, without pods, to be rolled back to.
      const old = async () =>
        [...(await takeInventory(clusters, context))]
          .filter(
            ([name, text]) => text.includes('"isthmus.dev/revision":"default"') && !name.startsWith("ReplicaSet."),
          )
          .map(([name]) => name);
      // Pods end after what they were of is gone.
      await eventually(old, (names) => names.length === 0, 60_000);
    }
    await noCallFailed();
    await expectAnswer(clusters);
  }, 800_000);

  test("uninstalled, the clusters are as they were", async () => {
    await clusters.must(
      `
      kubectl delete --context=$CTX_CLUSTER1 namespace foo
      kubectl delete --context=$CTX_CLUSTER2 namespace bar
      isthmus uninstall --yes ${both}
      kubectl delete --context=$CTX_CLUSTER1 namespace isthmus-system --ignore-not-found
      kubectl delete --context=$CTX_CLUSTER2 namespace isthmus-system --ignore-not-found`,
      {
        timeoutMs: 500_000,
      },
    );
    for (const context of clusters.contexts) await becomes(clusters, context, before.get(context)!);
  }, 800_000);
});
