import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../e2e/isthmus.ts";
import { type Clusters, missingForClusters, onGivenClusters, takeClusters } from "./clusters.ts";
import {
  createCacerts,
  directEntry,
  expectAnswer,
  guideCall,
  install,
  makeCertificates,
  serviceEntry,
  startExample,
  variables,
} from "./install-steps.ts";
import { becomes, compareInventories, type Inventory, inventoryAtRest, takeInventory } from "./inventory.ts";

/**
 * The guide, from an empty cluster to an empty cluster, with one data plane everywhere. Each step stands on the one before,
 * so none is run twice.
 */
export function guideOn(dataPlane: "embedded" | "envoy"): void {
  // Somebody's own clusters have it in their images.
  const envoyHere = dataPlane === "envoy" && !onGivenClusters;
  const missing = missingForClusters(...(envoyHere ? (["envoy"] as const) : []));
  describe(`the guide on two Kubernetes clusters, data plane ${dataPlane}`, { retry: 0 }, () => {
    if (missing) {
      test("runs", ({ skip }) => skip(missing));
      return;
    }
    let clusters: Clusters;
    const before = new Map<string, Inventory>();
    beforeAll(async () => {
      clusters = await takeClusters();
      for (const context of clusters.contexts) before.set(context, await inventoryAtRest(clusters, context));
    });
    afterAll(() => clusters?.stop());

    test("1: one command puts a control plane and gateways into each cluster", async () => {
      await makeCertificates(clusters);
      await createCacerts(clusters);
      await install(clusters, `--set dataPlane=${dataPlane}`);
      for (const context of clusters.contexts) {
        const added = compareInventories(before.get(context)!, await takeInventory(clusters, context));
        expect(added).toEqual(expect.arrayContaining(["new: Deployment.apps isthmus-system/isthmus"]));
      }
      for (const number of [1, 2]) {
        const there = await clusters.must(
          `kubectl get --context=$CTX_CLUSTER${number} -n isthmus-system deployments -o json`,
        );
        const { items } = JSON.parse(there) as {
          items: { metadata: { name: string }; spec: { replicas: number }; status: { availableReplicas?: number } }[];
        };
        expect(items.map(({ metadata }) => metadata.name).sort()).toEqual([
          "isthmus",
          "isthmus-egressgateway",
          "isthmus-ingressgateway",
        ]);
        for (const { spec, status } of items) expect(status.availableReplicas).toBe(spec.replicas);
      }
    }, 500_000);

    test("2: the cluster's DNS asks the mesh for .global, and keeps all else that it had", async () => {
      const corefile =
        "kubectl get --context=$CTX_CLUSTER1 -n kube-system configmap coredns -o jsonpath={.data.Corefile}";
      const was = await clusters.must(corefile);
      // A kubelet takes a minute to bring a changed ConfigMap, and CoreDNS another half to look at it.
      await clusters.must("isthmus dns install --context $CTX_CLUSTER1 --context $CTX_CLUSTER2", {
        timeoutMs: 240_000,
      });
      const is = await clusters.must(corefile);
      for (const line of was.split("\n")) expect(is).toContain(line);
      const ip = await clusters.must(
        "kubectl get --context=$CTX_CLUSTER1 -n isthmus-system svc isthmus-dns -o jsonpath={.spec.clusterIP}",
      );
      expect(is.slice(is.indexOf("global:53"))).toMatch(new RegExp(`forward \\. ${ip}:53`));
    }, 300_000);

    test("3: sleep in cluster1 gets its answer from httpbin in cluster2", async () => {
      await startExample(clusters);
      await clusters.must(variables + directEntry);
      await expectAnswer(clusters);
    }, 600_000);

    test("3: the pods have a proxy beside them, and httpbin knows who called", async () => {
      const containers = await clusters.must(
        `${variables} kubectl get --context=$CTX_CLUSTER1 -n foo pod $SLEEP_POD -o json`,
      );
      const { spec } = JSON.parse(containers) as {
        spec: { initContainers?: { name: string }[]; containers: { name: string }[] };
      };
      const names = [...(spec.initContainers ?? []), ...spec.containers].map(({ name }) => name);
      expect(names).toEqual(expect.arrayContaining(["istio-init", "istio-proxy", "sleep"]));
      const said = await clusters.must(`${variables}
      kubectl exec --context=$CTX_CLUSTER1 $SLEEP_POD -n foo -c sleep -- curl -sS httpbin.bar.global:8000/headers`);
      expect(said).toContain("spiffe://cluster.local/ns/foo/sa/sleep");
    });

    test("2: a pod without a proxy resolves the name through the cluster's DNS", async () => {
      await clusters.must(
        `
      kubectl create --context=$CTX_CLUSTER1 namespace plain
      kubectl apply --context=$CTX_CLUSTER1 -n plain -f samples/sleep/sleep.yaml
      kubectl rollout status --context=$CTX_CLUSTER1 -n plain deployment/sleep --timeout=180s`,
        { timeoutMs: 240_000 },
      );
      await eventually(
        () =>
          clusters.sh(
            "kubectl exec --context=$CTX_CLUSTER1 -n plain deploy/sleep -c sleep -- getent ahostsv4 httpbin.bar.global",
          ),
        ({ stdout }) => stdout.includes("240.0.0.2"),
        90_000,
      );
    }, 400_000);

    const egressForms = {
      "by IP": `  resolution: STATIC
  addresses: [240.0.0.2]
  endpoints:
  - address: \${CLUSTER2_GW_ADDR}
    network: external
    ports: { http1: 15443 }
  - address: \${CLUSTER1_EGW_ADDR}
    ports: { http1: 15443 }`,
      "by name": `  resolution: DNS
  addresses: [240.0.0.2]
  endpoints:
  - address: \${CLUSTER2_GW_ADDR}
    network: external
    ports: { http1: 15443 }
  - address: istio-egressgateway.istio-system.svc.cluster.local
    ports: { http1: 15443 }`,
    };
    const scaleEgress = (replicas: number) => `
    kubectl scale --context=$CTX_CLUSTER1 -n isthmus-system deployment/isthmus-egressgateway --replicas=${replicas}
    kubectl wait --context=$CTX_CLUSTER1 -n isthmus-system deployment/isthmus-egressgateway --timeout=180s \\
      --for=jsonpath='{.spec.replicas}'=${replicas}
    ${replicas > 0 ? "kubectl rollout status --context=$CTX_CLUSTER1 -n isthmus-system deployment/isthmus-egressgateway --timeout=180s" : ""}`;

    for (const [form, rest] of Object.entries(egressForms)) {
      test(`4: the call goes through the egress gateway, given ${form}, and never around it`, async () => {
        await clusters.must(variables + serviceEntry(rest));
        await expectAnswer(clusters);
        await clusters.must(scaleEgress(0), { timeoutMs: 400_000 });
        await eventually(
          () => clusters.sh(`${variables}${guideCall}`),
          ({ stdout }) => !stdout.includes("200 OK"),
          90_000,
        );
        await clusters.must(scaleEgress(1), { timeoutMs: 400_000 });
        await expectAnswer(clusters);
      }, 500_000);
    }

    test("5: jason sees reviews v2 of cluster2, the others v1 of here and v3 of there", async () => {
      await clusters.must(
        `${variables}
      for CTX in $CTX_CLUSTER1 $CTX_CLUSTER2; do
        kubectl label --context=$CTX namespace default istio-injection=enabled
        kubectl apply --context=$CTX -f samples/bookinfo/platform/kube/bookinfo.yaml
      done
      kubectl delete --context=$CTX_CLUSTER1 deployment reviews-v2 reviews-v3
      kubectl delete --context=$CTX_CLUSTER2 deployment productpage-v1 details-v1 reviews-v1
      envsubst() { sed "s/\\\${CLUSTER2_GW_ADDR}/$CLUSTER2_GW_ADDR/"; }
      envsubst < samples/bookinfo/networking/reviews-multicluster-cluster1.yaml | kubectl apply --context=$CTX_CLUSTER1 -f -
      kubectl apply --context=$CTX_CLUSTER2 -f samples/bookinfo/networking/reviews-multicluster-cluster2.yaml
      for D in productpage-v1 details-v1 ratings-v1 reviews-v1; do
        kubectl rollout status --context=$CTX_CLUSTER1 deployment/$D --timeout=180s; done
      for D in ratings-v1 reviews-v2 reviews-v3; do
        kubectl rollout status --context=$CTX_CLUSTER2 deployment/$D --timeout=180s; done`,
        { timeoutMs: 600_000 },
      );
      const versions = async (times: number, options = "") => {
        const { stdout } = await clusters.sh(`${variables}
        kubectl exec --context=$CTX_CLUSTER1 $SLEEP_POD -n foo -c sleep -- sh -c \\
          'i=0; while [ $i -lt ${times} ]; do curl -sS -m 15 ${options} reviews.default:9080/reviews/0; echo; i=$((i+1)); done'`);
        const seen: Record<string, number> = {};
        for (const line of stdout.split("\n").filter((text) => text !== "")) {
          const version = /"podname": ?"(reviews-v\d)-/.exec(line)?.[1] ?? line;
          seen[version] = (seen[version] ?? 0) + 1;
        }
        return seen;
      };
      await eventually(
        () => versions(4, '-H "end-user: jason"'),
        (seen) => seen["reviews-v2"] === 4,
        120_000,
      );
      expect(await versions(20, '-H "end-user: jason"')).toEqual({ "reviews-v2": 20 });
      // Both have answered once before they are counted.
      await eventually(
        () => versions(10),
        (seen) => Object.keys(seen).sort().join() === "reviews-v1,reviews-v3",
        120_000,
      );
      const others = await versions(100);
      expect(Object.keys(others).sort()).toEqual(["reviews-v1", "reviews-v3"]);
      // Of 100 throws of a coin, 50 ± 25 is five standard deviations.
      expect(Math.abs(others["reviews-v1"]! - 50)).toBeLessThan(25);
    }, 900_000);

    test("6: what is deleted stops to resolve and to flow", async () => {
      await clusters.must(
        `
      kubectl delete --context=$CTX_CLUSTER1 -f samples/bookinfo/platform/kube/bookinfo.yaml --ignore-not-found
      kubectl delete --context=$CTX_CLUSTER2 -f samples/bookinfo/platform/kube/bookinfo.yaml --ignore-not-found
      kubectl delete --context=$CTX_CLUSTER1 -f samples/bookinfo/networking/reviews-multicluster-cluster1.yaml
      kubectl delete --context=$CTX_CLUSTER2 -f samples/bookinfo/networking/reviews-multicluster-cluster2.yaml
      kubectl label --context=$CTX_CLUSTER1 namespace default istio-injection-
      kubectl label --context=$CTX_CLUSTER2 namespace default istio-injection-
      kubectl delete --context=$CTX_CLUSTER1 -n foo serviceentry httpbin-bar`,
        { timeoutMs: 240_000 },
      );
      await eventually(
        () => clusters.sh(`${variables}${guideCall}`),
        ({ stdout, stderr }) => stdout === "" && /Could not resolve host/.test(stderr),
        60_000,
      );
    }, 400_000);

    test("6: uninstalled, the clusters are as they were, object by object", async () => {
      await clusters.must(
        `
      kubectl delete --context=$CTX_CLUSTER1 namespace foo plain
      kubectl delete --context=$CTX_CLUSTER2 namespace bar`,
        { timeoutMs: 240_000 },
      );
      await clusters.must("isthmus dns remove --context $CTX_CLUSTER1 --context $CTX_CLUSTER2", { timeoutMs: 120_000 });
      await clusters.must("isthmus uninstall --yes --context $CTX_CLUSTER1 --context $CTX_CLUSTER2", {
        timeoutMs: 330_000,
      });
      // The namespace and its secret are what the guide had people create by hand.
      await clusters.must(
        `
      kubectl delete --context=$CTX_CLUSTER1 namespace isthmus-system --ignore-not-found
      kubectl delete --context=$CTX_CLUSTER2 namespace isthmus-system --ignore-not-found`,
        { timeoutMs: 240_000 },
      );
      for (const context of clusters.contexts) await becomes(clusters, context, before.get(context)!);
    }, 900_000);

    test("6: uninstalled once more, there is nothing to do and nothing to complain of", async () => {
      const again = await clusters.sh(
        "isthmus uninstall --yes --context $CTX_CLUSTER1 --context $CTX_CLUSTER2; isthmus dns remove --context $CTX_CLUSTER1 --context $CTX_CLUSTER2",
        { timeoutMs: 200_000 },
      );
      expect(again, again.stderr).toMatchObject({ code: 0 });
    }, 220_000);
  });
}
