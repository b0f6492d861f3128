import { describe, expect, test } from "vitest";
import { type Clock, Failure, systemClock } from "../../base/index.ts";
import { createIntermediate, createRoot } from "../../ca/index.ts";
import { ObjectApi } from "../../kube/index.ts";
import { customResourceDefinition } from "../../resources/index.ts";
import { FakeCluster } from "../../testing/index.ts";
import { fieldManager } from "../names.ts";
import { readSettings } from "../settings/read.ts";
import { demoCacerts, judgeCacerts } from "./cacerts.ts";
import { changeLines } from "./changes.ts";
import { checkTarget, checkTogether } from "./checks.ts";
import { installedRevisions } from "./facts.ts";
import { installInto, plannedChanges } from "./install.ts";
import type { Progress, Target } from "./target.ts";
import { planUninstall, uninstallFrom } from "./uninstall.ts";
import { planSwitch, removeRevision, switchTo } from "./upgrade.ts";
import { verifyInstallation } from "./verify.ts";

const namespace = "isthmus-system";
const root = createRoot({ nowMs: Date.now() });

/** Time that jumps whenever somebody waits, so that patience costs nothing. */
function jumpingClock(): Clock {
  let passed = 0;
  return {
    now: () => systemClock.now(),
    monotonic: () => passed,
    after(ms, run) {
      passed += ms;
      const handle = setImmediate(run);
      return { cancel: () => clearImmediate(handle) };
    },
  };
}

function secretOf(files: Readonly<Record<string, string>>): object {
  const data = Object.entries(files).map(([name, text]) => [name, Buffer.from(text).toString("base64")]);
  return { apiVersion: "v1", kind: "Secret", metadata: { name: "cacerts", namespace }, data: Object.fromEntries(data) };
}

/** A cluster as the guide has it before installing: namespace and cacerts are the user's. */
function cluster(options: { readonly bare?: boolean } = {}): FakeCluster {
  const fake = new FakeCluster();
  fake.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "default" } });
  fake.put({ apiVersion: "v1", kind: "Node", metadata: { name: "node1" }, spec: { providerID: "cloud://1" } });
  if (!options.bare) {
    fake.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
    fake.put(secretOf(createIntermediate({ nowMs: Date.now(), issuer: root, cluster: "c" })));
  }
  // Who would react: kubelets, and the leader of the control plane.
  fake.onApply = (object) => {
    if (object.kind === "Deployment") {
      const { replicas = 1 } = object["spec"] as { replicas?: number };
      object["status"] = { observedGeneration: 0, replicas, updatedReplicas: replicas, availableReplicas: replicas };
    }
    for (const webhook of (object["webhooks"] ?? []) as Array<{
      clientConfig: { caBundle?: string };
      failurePolicy: string;
    }>) {
      webhook.clientConfig.caBundle ??= "cm9vdA==";
      webhook.failurePolicy = "Fail";
    }
  };
  return fake;
}

function targetOf(fake: FakeCluster, name = "cluster1"): Target {
  const clock = jumpingClock();
  const { signal } = new AbortController();
  const api = new ObjectApi({ client: fake.client, fieldManager, clock, random: () => 0.5, signal });
  return { context: name, clusterName: name, api, clock, signal };
}

const settingsOf = (...sets: readonly string[]) =>
  readSettings({ files: [], sets: ["cluster=cluster1", "profile=multicluster-gateways", ...sets], version: "1.0.0" });

async function install(fake: FakeCluster, ...sets: readonly string[]): Promise<readonly Progress[]> {
  const target = targetOf(fake);
  const settings = settingsOf(...sets);
  const { problems, facts } = await checkTarget(target, settings);
  expect(problems).toEqual([]);
  const told: Progress[] = [];
  await installInto(target, { settings, facts, demoCacerts: undefined, timeoutMs: 60_000 }, (progress) =>
    told.push(progress),
  );
  return told;
}

async function uninstall(
  fake: FakeCluster,
  wish: { readonly revision?: string; readonly purge?: boolean } = {},
): Promise<readonly string[]> {
  const target = targetOf(fake);
  const all = { revision: wish.revision, purge: wish.purge ?? false, timeoutMs: 60_000 };
  const told: string[] = [];
  await uninstallFrom(target, await planUninstall(target, all), all, ({ text }) => told.push(text));
  return told;
}

describe("checks before anything is written", () => {
  const rows: ReadonlyArray<{
    readonly it: string;
    readonly make: (fake: FakeCluster) => void;
    readonly sets?: readonly string[];
    readonly problem?: RegExp;
    readonly warning?: RegExp;
    readonly note?: RegExp;
  }> = [
    { it: "all is well", make: () => {}, note: /you are cluster-admin/ },
    {
      it: "an old server",
      make: (fake) => {
        fake.version = { major: "1", minor: "24+" };
      },
      problem: /1\.24 is too old: 1\.25/,
    },
    {
      it: "a server that is away",
      make: (fake) => {
        fake.failing = () => new Failure("kube/unreachable", "no answer");
      },
      problem: /no answer/,
    },
    {
      it: "no cacerts",
      make: (fake) => fake.objects.delete(`Secret ${namespace}/cacerts`),
      problem: /kubectl create secret generic cacerts/,
    },
    {
      it: "an incomplete cacerts",
      make: (fake) => fake.put(secretOf({ "ca-cert.pem": root["ca-cert.pem"], "root-cert.pem": "nonsense" })),
      problem: /ca-key.pem is not there[\s\S]*root-cert.pem .*malformed[\s\S]*cert-chain.pem is not there/,
    },
    {
      it: "cacerts of a demo",
      make: (fake) => fake.put(demoCacerts(["c"], { nowMs: Date.now(), namespace }).get("c")!),
      problem: /made by a demo for itself/,
    },
    {
      it: "rights that are missing, all of them",
      make: (fake) => {
        fake.may = ({ resource, verb }) => verb === "get" || !["clusterroles", "deployments", "*"].includes(resource);
      },
      problem:
        /create, patch, list, delete clusterroles.rbac.authorization.k8s.io in the whole cluster[\s\S]*create, patch deployments.apps in isthmus-system/,
    },
    {
      it: "rights to give rights",
      make: (fake) => {
        fake.may = ({ resource }) => !["tokenreviews", "*"].includes(resource);
      },
      problem: /create tokenreviews.authentication.k8s.io in the whole cluster/,
    },
    {
      it: "just the rights that it takes",
      make: (fake) => {
        fake.may = ({ verb }) => verb !== "*";
      },
      note: /you have the rights/,
    },
    {
      it: "definitions of somebody else that will do",
      make: (fake) => fake.put(customResourceDefinition("Gateway")),
      note: /gateways.networking.istio.io is there, made by somebody else, and stays/,
    },
    {
      it: "definitions of somebody else that will not do",
      make: (fake) => {
        const { spec, ...rest } = customResourceDefinition("Gateway");
        fake.put({ ...rest, spec: { ...spec, versions: spec.versions.filter(({ name }) => name === "v1") } });
      },
      problem: /does not serve v1alpha3/,
    },
    {
      it: "another mesh's injector",
      make: (fake) =>
        fake.put({
          apiVersion: "admissionregistration.k8s.io/v1",
          kind: "MutatingWebhookConfiguration",
          metadata: { name: "istio-sidecar-injector" },
          webhooks: [{ name: "x", namespaceSelector: { matchLabels: { "istio-injection": "enabled" } } }],
        }),
      warning: /istio-sidecar-injector, of another mesh, selects by the same labels/,
    },
    { it: "a cluster without nodes", make: (fake) => fake.objects.delete("Node node1"), warning: /has no node yet/ },
    {
      it: "a cluster that may have no load balancers",
      make: (fake) =>
        fake.put({ apiVersion: "v1", kind: "Node", metadata: { name: "node1" }, spec: { providerID: "kind://a" } }),
      warning: /gateways.ingress.nodePort/,
    },
    {
      it: "an installation in another namespace",
      make: (fake) =>
        fake.put({
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: {
            name: "isthmus-installation",
            namespace: "elsewhere",
            labels: {
              "app.kubernetes.io/managed-by": "isthmus",
              "app.kubernetes.io/part-of": "isthmus",
              "isthmus.dev/component": "base",
              "isthmus.dev/revision": "default",
            },
          },
        }),
      problem: /is installed in namespace elsewhere/,
    },
  ];
  for (const { it, make, sets = [], problem, warning, note } of rows) {
    test(it, async () => {
      const fake = cluster();
      make(fake);
      const checked = await checkTarget(targetOf(fake), settingsOf(...sets));
      if (problem) expect(checked.problems.join("\n")).toMatch(problem);
      else expect(checked.problems).toEqual([]);
      if (warning) expect(checked.warnings.join("\n")).toMatch(warning);
      if (note) expect(checked.notes.join("\n")).toMatch(note);
      expect(fake.writes).toEqual([]);
    });
  }

  test("clusters of two roots, and two of one name, are told apart", async () => {
    const [one, two] = [cluster(), cluster()];
    two.put(
      secretOf(createIntermediate({ nowMs: Date.now(), issuer: createRoot({ nowMs: Date.now() }), cluster: "d" })),
    );
    const settings = settingsOf();
    const both = await Promise.all(
      [one, two].map(async (fake, index) => {
        const target = targetOf(fake, `context${index}`);
        return { context: target.context, settings, checked: await checkTarget(target, settings) };
      }),
    );
    const said = checkTogether(both).join("\n");
    expect(said).toMatch(/"context0" and "context1" would both be cluster "cluster1"/);
    expect(said).toMatch(/do not share one root/);
  });

  test("demo certificates of several clusters have one root", () => {
    const made = demoCacerts(["a", "b"], { nowMs: Date.now(), namespace });
    const roots = [...made.values()].map((secret) => judgeCacerts(secret, { nowMs: Date.now(), demoAllowed: true }));
    expect(roots.map(({ kind }) => kind)).toEqual(["sound", "sound"]);
    expect(new Set(roots.map((state) => state.kind === "sound" && state.root)).size).toBe(1);
  });
});

describe("installation", () => {
  test("applies in order, and everything is verified after", async () => {
    const fake = cluster();
    const told = await install(fake);
    expect(told.filter(({ kind }) => kind === "done").map(({ text }) => text.split(":")[0])).toEqual([
      "Definitions",
      "Control plane",
      "Webhooks",
      "Gateways",
      "Mesh rules",
    ]);
    const at = (name: string) => fake.writes.indexOf(`PATCH ${name}`);
    expect(at(`Deployment ${namespace}/isthmus`)).toBeLessThan(
      at("MutatingWebhookConfiguration isthmus-sidecar-injector"),
    );
    expect(at(`Namespace ${namespace}`)).toBe(-1);
    const target = targetOf(fake);
    const { facts } = await checkTarget(target, settingsOf());
    const verified = await verifyInstallation(target, settingsOf(), facts);
    expect(verified.filter(({ problem }) => problem !== undefined)).toEqual([]);
    fake.objects.delete(`Service ${namespace}/isthmus-dns`);
    const again = await verifyInstallation(target, settingsOf(), facts);
    expect(again.filter(({ problem }) => problem)).toEqual([
      { object: `Service ${namespace}/isthmus-dns`, problem: "is not there" },
    ]);
  });

  test("cut off anywhere, it is taken up where it was", async () => {
    const whole = cluster();
    await install(whole);
    for (const after of [0, 4, 9, 14, 19, 24, 28]) {
      const fake = cluster();
      let writes = 0;
      fake.failing = ({ method }) =>
        method === "PATCH" && ++writes > after ? new Failure("kube/forbidden", "cut off") : undefined;
      await expect(install(fake)).rejects.toThrow(/cut off/);
      fake.failing = () => undefined;
      await install(fake);
      expect(fake.names(), `cut off after ${after}`).toEqual(whole.names());
    }
  });

  test("changes nothing when nothing changed, and says what would", async () => {
    const fake = cluster();
    await install(fake);
    const target = targetOf(fake);
    const lines = async (...sets: readonly string[]) => {
      const settings = settingsOf(...sets);
      const { facts } = await checkTarget(target, settings);
      return changeLines(await plannedChanges(target, { settings, facts, demoCacerts: undefined, timeoutMs: 0 }));
    };
    const before = fake.writes.length;
    expect(await lines()).toEqual([]);
    const changed = await lines("controlPlane.replicas=3");
    expect(changed).toContain(`~ Deployment ${namespace}/isthmus`);
    expect(changed).toContain("    spec.replicas: 2 → 3");
    expect(fake.writes.length).toBe(before);
  });

  test("what is no longer wanted goes", async () => {
    const fake = cluster();
    await install(fake);
    await install(fake, "gateways.egress.enabled=false");
    expect(fake.names().filter((name) => name.includes("egress"))).toEqual([]);
  });

  test("a pod that does not come up is named with its reason", async () => {
    const fake = cluster();
    const react = fake.onApply;
    fake.onApply = (object) => {
      react(object);
      if (object.kind !== "Deployment") return;
      object["status"] = { observedGeneration: 0, replicas: 2, updatedReplicas: 2, availableReplicas: 0 };
      const waiting = { reason: "ImagePullBackOff", message: 'Back-off pulling image "x"' };
      fake.put({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "isthmus-1", namespace, labels: { app: "isthmus", "isthmus.dev/revision": "default" } },
        status: { phase: "Pending", containerStatuses: [{ name: "isthmus", ready: false, state: { waiting } }] },
      });
    };
    await expect(install(fake)).rejects.toThrow(
      /0 of 2 pods ready: isthmus-1: the image of isthmus cannot be had: ImagePullBackOff/,
    );
    expect(fake.names().some((name) => name.includes("WebhookConfiguration"))).toBe(false);
  });

  test("somebody else's object of our name is not taken over", async () => {
    const fake = cluster();
    fake.put({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "isthmus", namespace, owner: "helm" },
      spec: { ports: [] },
    });
    await expect(install(fake)).rejects.toThrow(/Service isthmus-system\/isthmus is somebody else's.*"helm"/);
  });

  test("definitions of somebody else stay as they are, after uninstalling too", async () => {
    const fake = cluster();
    fake.put(customResourceDefinition("Gateway"));
    const before = fake.get("CustomResourceDefinition", "gateways.networking.istio.io");
    await install(fake);
    await uninstall(fake);
    expect(fake.get("CustomResourceDefinition", "gateways.networking.istio.io")).toEqual(before);
  });
});

describe("uninstallation", () => {
  test("waits for a server that is busy, whatever it is asked", async () => {
    const fake = cluster();
    await install(fake);
    let busy = 0;
    fake.failing = () => (++busy % 3 === 0 ? new Failure("kube/throttled", "storage is (re)initializing") : undefined);
    await uninstall(fake);
    expect(fake.get("Deployment", `${namespace}/isthmus`)).toBeUndefined();
  });

  test("leaves the cluster as it was, object by object, and can be run twice", async () => {
    const fake = cluster();
    const before = structuredClone(fake.objects);
    await install(fake);
    await uninstall(fake);
    expect(fake.objects).toEqual(before);
    fake.writes.length = 0;
    expect(await uninstall(fake)).toEqual([]);
    expect(fake.writes).toEqual([]);
  });

  test("takes a namespace along that it made, and what a running control plane made", async () => {
    const fake = cluster({ bare: true });
    const before = fake.names();
    const target = targetOf(fake);
    const settings = settingsOf("profile=demo");
    const { problems, facts } = await checkTarget(target, settings);
    expect(problems).toEqual([]);
    const secret = demoCacerts(["cluster1"], { nowMs: Date.now(), namespace }).get("cluster1")!;
    await installInto(target, { settings, facts, demoCacerts: secret, timeoutMs: 60_000 }, () => {});
    const labels = { "app.kubernetes.io/managed-by": "isthmus", "app.kubernetes.io/part-of": "isthmus" };
    fake.put({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "isthmus-ca-root-cert", namespace: "default", labels },
    });
    fake.put({
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "isthmus-leader", namespace, labels },
    });
    await uninstall(fake);
    expect(fake.names()).toEqual(before);
  });

  test("webhooks go first, the control plane before what it would make anew", async () => {
    const fake = cluster();
    await install(fake);
    fake.writes.length = 0;
    await uninstall(fake);
    const at = (name: string) => fake.writes.indexOf(`DELETE ${name}`);
    expect(at("MutatingWebhookConfiguration isthmus-sidecar-injector")).toBe(0);
    expect(at(`Deployment ${namespace}/isthmus`)).toBeLessThan(at(`ServiceAccount ${namespace}/isthmus`));
  });

  test("a namespace in which something else is stays", async () => {
    const fake = cluster({ bare: true });
    fake.put({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: {
        name: namespace,
        labels: { "app.kubernetes.io/managed-by": "isthmus", "app.kubernetes.io/part-of": "isthmus" },
      },
    });
    fake.put({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "mine", namespace } });
    expect((await uninstall(fake)).join("\n")).toMatch(
      /kept namespace isthmus-system: ConfigMap mine in it is not ours/,
    );
    expect(fake.get("ConfigMap", `${namespace}/mine`)).toBeDefined();
  });

  test("definitions stay while users' objects are of them, unless purged", async () => {
    const fake = cluster();
    await install(fake);
    const entry = {
      apiVersion: "networking.istio.io/v1",
      kind: "ServiceEntry",
      metadata: { name: "mine", namespace: "default" },
    };
    fake.put(entry);
    expect((await uninstall(fake)).join("\n")).toMatch(
      /kept CustomResourceDefinition serviceentries.*default\/mine would go with it/,
    );
    expect(fake.names().filter((name) => name.startsWith("CustomResourceDefinition"))).toHaveLength(1);
    await uninstall(fake, { purge: true });
    expect(fake.names().filter((name) => name.startsWith("CustomResourceDefinition"))).toEqual([]);
  });

  test("what only looks like ours stays", async () => {
    const fake = cluster();
    fake.put({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "isthmus-injection", namespace: "default" } });
    await install(fake);
    await uninstall(fake);
    expect(fake.get("ConfigMap", "default/isthmus-injection")).toBeDefined();
  });
});

describe("revisions", () => {
  const webhooksOf = (fake: FakeCluster, name: string) =>
    ((fake.get("MutatingWebhookConfiguration", name)?.["webhooks"] ?? []) as Array<{ name: string }>).map(
      (one) => one.name.split(".sidecar")[0],
    );

  test("one is installed beside another, becomes the default, and the old one is removed", async () => {
    const fake = cluster();
    const before = structuredClone(fake.objects);
    await install(fake);
    await install(fake, "revision=canary");
    expect(webhooksOf(fake, "isthmus-sidecar-injector")).toContain("namespace");
    expect(webhooksOf(fake, "isthmus-sidecar-injector-canary")).toEqual(["rev.namespace", "rev.object"]);
    const target = targetOf(fake);
    const plan = await planSwitch(target, "canary");
    const { facts } = await checkTarget(target, plan.to.settings);
    const labels = { "app.kubernetes.io/managed-by": "isthmus", "app.kubernetes.io/part-of": "isthmus" };
    fake.put({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "isthmus-refusals", namespace, labels } });
    for (const name of ["isthmus-mesh", "isthmus-leader", "isthmus-leader-canary"])
      fake.put({ apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name, namespace, labels } });
    fake.writes.length = 0;
    await switchTo(target, plan, { facts, timeoutMs: 60_000 }, () => {});
    const injector = "PATCH MutatingWebhookConfiguration isthmus-sidecar-injector";
    expect(fake.writes.indexOf(`${injector}-canary`)).toBeLessThan(fake.writes.indexOf(injector));
    expect(webhooksOf(fake, "isthmus-sidecar-injector")).toEqual(["rev.namespace", "rev.object"]);
    expect(webhooksOf(fake, "isthmus-sidecar-injector-canary")).toContain("namespace");
    // Whole: the root that the control plane put into them would keep half of each.
    expect(fake.writes.filter((write) => write.startsWith("MERGE"))).toEqual([injector.replace("PATCH", "MERGE")]);
    const gateway = JSON.stringify(fake.get("Deployment", `${namespace}/isthmus-ingressgateway`));
    expect(gateway).toContain("isthmus-canary.isthmus-system.svc:15012");
    expect((await installedRevisions(target.api)).map(({ revision, isDefault }) => [revision, isDefault])).toEqual([
      ["canary", true],
      ["default", false],
    ]);
    await removeRevision(target, { revision: "default", timeoutMs: 60_000 }, () => {});
    expect(fake.get("Deployment", `${namespace}/isthmus`)).toBeUndefined();
    // What is everybody's stays for those that are left.
    expect(fake.get("ConfigMap", `${namespace}/isthmus-refusals`)).toBeDefined();
    expect(fake.names().filter((name) => name.startsWith("Lease"))).toEqual(
      ["isthmus-leader-canary", "isthmus-mesh"].map((name) => `Lease ${namespace}/${name}`),
    );
    expect(fake.get("Deployment", `${namespace}/isthmus-ingressgateway`)).toBeDefined();
    await uninstall(fake);
    expect(fake.objects).toEqual(before);
  });

  test("a dry run says which webhooks would go, and takes none away", async () => {
    const fake = cluster();
    await install(fake);
    const target = targetOf(fake);
    const settings = settingsOf();
    const { facts } = await checkTarget(target, settings);
    fake.writes.length = 0;
    const plan = { settings, facts: { ...facts, isDefault: false }, demoCacerts: undefined, timeoutMs: 60_000 };
    const changes = await plannedChanges(target, plan);
    expect(changes.filter(({ kind }) => kind === "refused")).toEqual([]);
    const injector = changes.find(({ manifest }) => manifest.metadata.name === "isthmus-sidecar-injector")!;
    expect(changeLines([injector]).join("\n")).toMatch(/webhooks\[namespace\.sidecar[^\]]*\]: .* → nothing/);
    expect(fake.writes).toEqual([]);
  });

  test("a revision that pods use is not removed", async () => {
    const fake = cluster();
    await install(fake);
    fake.put({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "sleep", namespace: "default", labels: { "istio.io/rev": "default" } },
      spec: { containers: [{ name: "sleep" }, { name: "istio-proxy" }] },
    });
    const removed = removeRevision(targetOf(fake), { revision: "default", timeoutMs: 1_000 }, () => {});
    await expect(removed).rejects.toThrow(/still in use:\n {2}default: 1 pod \(sleep\)/);
  });

  test("a revision that is not there is said, with those that are", async () => {
    const fake = cluster();
    await install(fake);
    await expect(planSwitch(targetOf(fake), "canary")).rejects.toThrow(/revision "canary" is not installed/);
  });
});
