import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { builtProgram } from "../built-program.ts";
import { eventually } from "../e2e/isthmus.ts";
import { missingOf } from "../requirements.ts";
import { type Clusters, missingForGround, takeClusters } from "./clusters.ts";
import { kubeconfigText } from "./ground/index.ts";
import { createCacerts, install, makeCertificates } from "./install-steps.ts";
import { becomes, compareInventories, type Inventory, inventoryAtRest, takeInventory } from "./inventory.ts";

const missing = missingForGround();
const installHere = "isthmus install --context $CTX_CLUSTER1 --set profile=multicluster-gateways";

/** What installing does where something is wrong. All on one pair of clusters, which each test leaves as it found it. */
describe("installing where something is wrong", () => {
  if (missing) {
    test("runs", ({ skip }) => skip(missing));
    return;
  }
  let clusters: Clusters;
  const untouched = new Map<string, Inventory>();
  beforeAll(async () => {
    clusters = await takeClusters();
    await makeCertificates(clusters);
    for (const context of clusters.contexts) untouched.set(context, await inventoryAtRest(clusters, context));
  });
  afterAll(() => clusters?.stop());

  /** Whether the test before, or the run before of the same test, has left what it made. */
  let littered = false;
  afterEach(({ task }) => {
    littered = task.result?.state === "fail";
  });
  beforeEach(async () => {
    if (!littered) return;
    const env = { HELM: builtProgram(process.env, "HELM", "helm") ?? "true" };
    // Much of it may not be there, or half; what counts is what is left.
    await clusters.sh(
      `set +e
       $HELM uninstall isthmus --kube-context=$CTX_CLUSTER1 -n isthmus-system --wait --timeout 60s
       for CTX in $CTX_CLUSTER1 $CTX_CLUSTER2; do
         isthmus dns remove --context $CTX
         isthmus uninstall --yes --context $CTX
         kubectl delete --context=$CTX namespace isthmus-system plain --ignore-not-found --timeout=120s
         kubectl delete --context=$CTX crd/serviceentries.networking.istio.io --ignore-not-found --timeout=60s
       done`,
      { env, timeoutMs: 400_000 },
    );
    for (const context of clusters.contexts) await becomes(clusters, context, untouched.get(context)!);
  }, 700_000);

  /** Runs what must be refused, and must leave nothing behind. */
  async function refused(script: string, env: Record<string, string> = {}): Promise<string> {
    const before = await inventoryAtRest(clusters, clusters.contexts[0]);
    const ran = await clusters.sh(script, { env, timeoutMs: 120_000 });
    expect(ran.code, ran.stdout + ran.stderr).not.toBe(0);
    const after = await takeInventory(clusters, clusters.contexts[0]);
    expect(compareInventories(before, after)).toEqual([]);
    return ran.stdout + ran.stderr;
  }

  /** The namespaces that `createCacerts` makes. */
  const deleteNamespaces = () =>
    clusters.must(
      `
      kubectl delete --context=$CTX_CLUSTER1 namespace isthmus-system --timeout=120s
      kubectl delete --context=$CTX_CLUSTER2 namespace isthmus-system --timeout=120s`,
      { timeoutMs: 300_000 },
    );

  const corefile = () =>
    clusters.must("kubectl get --context=$CTX_CLUSTER1 -n kube-system configmap coredns -o jsonpath={.data.Corefile}");

  test("somebody without the rights is told which are missing, before anything is made", async () => {
    const plane = clusters.ground!.planes.get("cluster1")!;
    const place = clusters.ground!.network.clusters[0]!;
    const kubeconfig = join(clusters.folder, "nobody.kubeconfig");
    const nobody = plane.credentials.issue({ commonName: "somebody" });
    writeFileSync(kubeconfig, kubeconfigText([{ ...plane.contextAt(place.server, "cluster1"), user: nobody }]));
    const said = await refused(installHere, { KUBECONFIG: kubeconfig });
    expect(said).toMatch(/cluster-admin/);
    expect(said).toMatch(/customresourcedefinitions/);
  });

  test("without a secret cacerts, it says how to make one", async () => {
    expect(await refused(installHere)).toMatch(/cacerts/);
  });

  test("an incomplete cacerts is refused by the name of the file that is missing", async () => {
    await clusters.must(`
      kubectl create --context=$CTX_CLUSTER1 namespace isthmus-system --dry-run=client -o yaml | kubectl apply --context=$CTX_CLUSTER1 -f -
      kubectl delete --context=$CTX_CLUSTER1 -n isthmus-system secret cacerts --ignore-not-found
      cd $FOLDER/cluster1
      kubectl create --context=$CTX_CLUSTER1 secret generic cacerts -n isthmus-system \\
        --from-file=ca-cert.pem --from-file=ca-key.pem --from-file=root-cert.pem`);
    expect(await refused(installHere)).toMatch(/cert-chain\.pem/);
    await clusters.must("kubectl delete --context=$CTX_CLUSTER1 namespace isthmus-system --timeout=110s");
  });

  test("interrupted half-way, it is run again and comes to its end; uninstalled, nothing is left, in the cluster's DNS neither", async () => {
    const before = await inventoryAtRest(clusters, clusters.contexts[0]);
    await createCacerts(clusters);
    const found = await inventoryAtRest(clusters, clusters.contexts[0]);
    for (const patience of [1.5, 3]) {
      await clusters.sh(`timeout -s KILL ${patience} ${installHere} || true`);
    }
    await clusters.must(installHere, { timeoutMs: 330_000 });
    await clusters.must("isthmus dns install --context $CTX_CLUSTER1", { timeoutMs: 240_000 });
    expect(await corefile()).toContain("global:53 {");
    const said = await clusters.sh("isthmus uninstall --yes --context $CTX_CLUSTER1", { timeoutMs: 240_000 });
    expect(said, said.stderr).toMatchObject({ code: 0 });
    expect(said.stdout + said.stderr).toMatch(/ConfigMap kube-system\/coredns.* is as it was without the mesh/);
    expect(await corefile()).not.toContain("global");
    await becomes(clusters, clusters.contexts[0], found);
    await deleteNamespaces();
    await becomes(clusters, clusters.contexts[0], before);
  }, 900_000);

  test("somebody's own Istio definitions and objects stay what they are", async () => {
    const definition = {
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: "serviceentries.networking.istio.io", labels: { release: "istio" } },
      spec: {
        group: "networking.istio.io",
        scope: "Namespaced",
        names: {
          kind: "ServiceEntry",
          listKind: "ServiceEntryList",
          plural: "serviceentries",
          singular: "serviceentry",
        },
        versions: ["v1alpha3", "v1beta1", "v1"].map((name) => ({
          name,
          served: true,
          storage: name === "v1",
          subresources: { status: {} },
          schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
        })),
      },
    };
    const entry = {
      apiVersion: "networking.istio.io/v1",
      kind: "ServiceEntry",
      metadata: { name: "theirs", namespace: "default" },
      spec: {
        hosts: ["their.example.com"],
        ports: [{ name: "http", number: 80, protocol: "HTTP" }],
        resolution: "DNS",
      },
    };
    const apply = (object: object) =>
      clusters.sh("kubectl apply --context=$CTX_CLUSTER1 -f -", { input: JSON.stringify(object) });
    expect(await apply(definition)).toMatchObject({ code: 0 });
    await clusters.must(
      "kubectl wait --context=$CTX_CLUSTER1 --for=condition=Established --timeout=110s crd/serviceentries.networking.istio.io",
    );
    // What is established is known to who asks a moment later.
    await eventually(
      () => apply(entry),
      ({ code }) => code === 0,
      60_000,
    );
    await createCacerts(clusters);
    const before = await inventoryAtRest(clusters, clusters.contexts[0]);
    await clusters.must(installHere, { timeoutMs: 330_000 });
    await clusters.must("isthmus uninstall --yes --context $CTX_CLUSTER1", { timeoutMs: 240_000 });
    await becomes(clusters, clusters.contexts[0], before);
    await clusters.must("kubectl delete --context=$CTX_CLUSTER1 crd/serviceentries.networking.istio.io");
    await deleteNamespaces();
  }, 900_000);

  test("installed by Helm it judges objects and injects; after Helm and isthmus uninstall nothing is left", async ({
    skip,
  }) => {
    const missing = missingOf(["helm"]);
    if (missing) return skip(missing);
    await createCacerts(clusters);
    const before = await inventoryAtRest(clusters, clusters.contexts[0]);
    const env = { HELM: builtProgram(process.env, "HELM", "helm")! };
    await clusters.must(
      `isthmus manifest helm --out $FOLDER/chart
       $HELM install isthmus $FOLDER/chart --kube-context=$CTX_CLUSTER1 -n isthmus-system --set cluster=cluster1 --wait --timeout 240s
       kubectl create --context=$CTX_CLUSTER1 namespace plain
       kubectl label --context=$CTX_CLUSTER1 namespace plain istio-injection=enabled`,
      { env, timeoutMs: 330_000 },
    );
    const apply = (object: object, ...options: readonly string[]) =>
      clusters.sh(`kubectl apply --context=$CTX_CLUSTER1 --dry-run=server ${options.join(" ")} -f -`, {
        input: JSON.stringify(object),
      });
    const entry = {
      apiVersion: "networking.istio.io/v1",
      kind: "ServiceEntry",
      metadata: { name: "wrong", namespace: "plain" },
      spec: {
        hosts: ["a.example.com"],
        addresses: ["224.0.0.1"],
        ports: [{ name: "http", number: 80, protocol: "HTTP" }],
      },
    };
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "sleep", namespace: "plain" },
      spec: { containers: [{ name: "sleep", image: "curlimages/curl" }] },
    };
    // The control plane writes its certificate into the webhooks when it leads; until then nobody is asked or refused.
    await eventually(
      () => apply(entry),
      ({ stderr }) => stderr.includes("224.0.0.1"),
      120_000,
    );
    // Into one webhook after the other.
    await eventually(
      () => apply(pod, "-o", "jsonpath='{.spec.initContainers[*].name} {.spec.containers[*].name}'"),
      ({ stdout }) => stdout.includes("istio-proxy"),
      120_000,
    );
    await clusters.must(
      `kubectl delete --context=$CTX_CLUSTER1 namespace plain --timeout=120s
       $HELM uninstall isthmus --kube-context=$CTX_CLUSTER1 -n isthmus-system --wait --timeout 120s
       isthmus uninstall --yes --context $CTX_CLUSTER1`,
      { env, timeoutMs: 330_000 },
    );
    await becomes(clusters, clusters.contexts[0], before);
    await deleteNamespaces();
  }, 900_000);

  test("what kubectl apply refuses, it refuses in the words of isthmus validate", async () => {
    await createCacerts(clusters);
    await install(clusters);
    const file = join(clusters.folder, "wrong.yaml");
    writeFileSync(
      file,
      `apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: { name: wrong, namespace: default }
spec:
  hosts: [httpbin.bar.global]
  location: MESH_INTERNAL
  resolution: DNS
  addresses: [224.0.0.1]
  ports:
  - { name: http1, number: 8000, protocol: http }
  endpoints:
  - { address: gateway.example.com, ports: { http1: 15443 } }
`,
    );
    const validated = await clusters.sh(`isthmus validate -f ${file}`);
    const message = /224\.0\.0\.1[^\n]*/.exec(validated.stdout + validated.stderr)?.[0];
    expect(message, validated.stdout + validated.stderr).toBeDefined();
    const applied = await clusters.sh(`kubectl apply --context=$CTX_CLUSTER1 -f ${file}`);
    expect(applied.code).not.toBe(0);
    expect(applied.stderr).toContain(message);
  }, 600_000);
});
