import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../e2e/isthmus.ts";
import { startCaller } from "./caller.ts";
import { type Clusters, missingForGround, takeClusters } from "./clusters.ts";
import type { ControlPlane } from "./ground/index.ts";
import {
  createCacerts,
  directEntry,
  expectAnswer,
  install,
  makeCertificates,
  startExample,
  variables,
} from "./install-steps.ts";

const missing = missingForGround();
const seconds = (count: number) => new Promise((resolve) => setTimeout(resolve, count * 1000));

/** What can be taken away from a running mesh without a request noticing. */
describe("a mesh whose Kubernetes fails it", { timeout: 400_000 }, () => {
  if (missing) {
    test("runs", ({ skip }) => skip(missing));
    return;
  }
  let clusters: Clusters;
  let plane: ControlPlane;
  let caller: Awaited<ReturnType<typeof startCaller>>;
  beforeAll(async () => {
    clusters = await takeClusters();
    plane = clusters.ground!.planes.get("cluster1")!;
    await makeCertificates(clusters);
    await createCacerts(clusters);
    await install(clusters);
    await startExample(clusters);
    await clusters.must(variables + directEntry);
    await expectAnswer(clusters);
    caller = await startCaller(clusters);
    await eventually(
      () => caller.calls(),
      ({ answered }) => answered > 0,
      60_000,
    );
  }, 900_000);
  afterAll(() => clusters?.stop());

  // A second run may find what the first has ended or held.
  beforeEach(async () => {
    plane.apiserver.hold(false);
    plane.apiserver.start();
    await plane.ready();
  });

  let made = 0;
  /** A name that nobody had before, in a second run either, which would find what the first has made. */
  const fresh = (name: string) => `${name}-${++made}`;

  /** A name that the proxies have not heard of before; whether it works says that news still flows. */
  async function newsArrives(after: string): Promise<void> {
    const name = fresh(after);
    const address = `240.0.1.${made}`;
    const entry = {
      apiVersion: "networking.istio.io/v1alpha3",
      kind: "ServiceEntry",
      metadata: { name, namespace: "foo" },
      spec: {
        hosts: [`${name}.example.com`],
        location: "MESH_EXTERNAL",
        resolution: "STATIC",
        addresses: [address],
        ports: [{ name: "http", number: 80, protocol: "HTTP" }],
        endpoints: [{ address: "192.0.2.10" }],
      },
    };
    await clusters.must("kubectl apply --context=$CTX_CLUSTER1 -f -", { input: JSON.stringify(entry) });
    await eventually(
      () =>
        clusters.sh(`${variables}
          kubectl exec --context=$CTX_CLUSTER1 $SLEEP_POD -n foo -c sleep -- getent ahostsv4 ${name}.example.com`),
      ({ stdout }) => stdout.includes(address),
      // Who was refused often asks again after half a minute only, and the next one hears of it from them.
      120_000,
    );
  }

  async function noCallFailed(): Promise<void> {
    const { answered, failed } = await caller.calls();
    expect(failed).toEqual([]);
    expect(answered).toBeGreaterThan(0);
  }

  test("the API server is killed and comes back", async () => {
    await caller.calls();
    await plane.apiserver.stop("SIGKILL");
    await seconds(5);
    plane.apiserver.start();
    await plane.ready();
    await newsArrives("after-a-kill");
    await noCallFailed();
  });

  test("what the control plane has seen is gone from etcd when the API server comes back", async () => {
    await caller.calls();
    await plane.apiserver.stop("SIGKILL");
    await plane.compact();
    plane.apiserver.start();
    await plane.ready();
    await newsArrives("after-a-compaction");
    await noCallFailed();
  });

  test("the API server is there and says nothing for a while", async () => {
    await caller.calls();
    plane.apiserver.hold(true);
    await seconds(10);
    plane.apiserver.hold(false);
    await plane.ready();
    await newsArrives("after-a-silence");
    await noCallFailed();
  });

  test("the leading control plane is killed", async () => {
    await caller.calls();
    const leader = await clusters.must(
      "kubectl get --context=$CTX_CLUSTER1 -n isthmus-system lease isthmus-leader -o jsonpath={.spec.holderIdentity}",
    );
    const pods = await clusters.must(
      "kubectl get --context=$CTX_CLUSTER1 -n isthmus-system pods -l app=isthmus -o jsonpath={.items[*].metadata.name}",
    );
    const pod = pods.split(" ").find((name) => leader.includes(name));
    expect(pod, `none of ${pods} is ${leader}`).toBeDefined();
    await clusters.must(`kubectl delete --context=$CTX_CLUSTER1 -n isthmus-system pod ${pod} --grace-period=0 --force`);
    await newsArrives("after-a-leader");
    await eventually(
      () =>
        clusters.must(
          "kubectl get --context=$CTX_CLUSTER1 -n isthmus-system lease isthmus-leader -o jsonpath={.spec.holderIdentity}",
        ),
      (holder) => holder !== "" && !holder.includes(pod!),
      60_000,
    );
    const namespace = fresh("after-a-leader");
    await clusters.must(`kubectl create --context=$CTX_CLUSTER1 namespace ${namespace}`);
    await eventually(
      () => clusters.sh(`kubectl get --context=$CTX_CLUSTER1 -n ${namespace} configmap isthmus-ca-root-cert -o name`),
      ({ code }) => code === 0,
      90_000,
    );
    await noCallFailed();
  });

  test("the control plane is restarted, one pod after the other", async () => {
    await caller.calls();
    await clusters.must(
      `kubectl rollout restart --context=$CTX_CLUSTER1 -n isthmus-system deployment/isthmus
       kubectl rollout status --context=$CTX_CLUSTER1 -n isthmus-system deployment/isthmus --timeout=180s`,
      { timeoutMs: 240_000 },
    );
    await newsArrives("after-a-restart");
    await noCallFailed();
  });
});
