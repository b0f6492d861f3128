import { describe, expect, test } from "vitest";
import type { Ask } from "../ask.ts";
import { installClusterDns } from "../install.ts";
import { coreDnsCluster, type FakeCluster, kubeadmCorefile, meshDns } from "../testdata/fake-cluster.ts";
import { examineDns } from "./doctor.ts";
import type { DoctorWish } from "./facts.ts";

const wish: DoctorWish = { name: "httpbin.bar.global", from: undefined, domains: undefined, version: undefined };
const none = { form: undefined, version: undefined, ips: undefined };
const no = { replace: false, complete: false, force: false, dryRun: false, restart: false, nodeLocal: false };

const entry = (name: string, spec: object, more: object = {}) => ({
  kind: "ServiceEntry",
  metadata: { name, namespace: "foo" },
  spec: { hosts: ["httpbin.bar.global"], addresses: ["240.0.0.2"], resolution: "DNS", ...spec },
  ...more,
});

async function healthy(
  over: Parameters<typeof coreDnsCluster>[0] = {},
  entries: readonly object[] = [entry("httpbin", {})],
) {
  const cluster = coreDnsCluster(over);
  for (const object of entries) cluster.put(object);
  await installClusterDns({ ...none, ...no, domains: ["global"], waitMs: 0 }, cluster.deps);
  return cluster;
}

/** Nobody can be asked from here, unless told. */
const away: Ask = async () => ({ kind: "unreachable", code: "ETIMEOUT" });

async function found(cluster: FakeCluster, over: Partial<DoctorWish> = {}, ask: Ask = away) {
  const { findings } = await examineDns({ ...wish, ...over }, cluster.deps, ask);
  return {
    wrong: findings.filter(({ level }) => level === "wrong").map(({ what }) => what),
    maybe: findings.filter(({ level }) => level === "maybe").map(({ what }) => what),
    all: findings,
  };
}

const pod = (spec: object) => ({ kind: "Pod", metadata: { name: "sleep", namespace: "foo" }, spec });

describe("the doctor", () => {
  test("finds nothing where nothing is wrong", async () => {
    const { wrong, maybe } = await found(await healthy());
    expect([wrong, maybe]).toEqual([[], []]);
  });

  const cases: ReadonlyArray<{
    readonly it: string;
    readonly make: () => Promise<FakeCluster>;
    readonly ask?: Partial<DoctorWish>;
    readonly wrong?: readonly string[];
    readonly maybe?: readonly string[];
  }> = [
    {
      it: "not installed",
      make: async () => withEntry(coreDnsCluster()),
      wrong: ['the cluster\'s DNS does not know "global"'],
    },
    {
      it: "a ConfigMap that was put back",
      make: async () => {
        const cluster = await healthy();
        cluster.put({
          kind: "ConfigMap",
          metadata: { name: "coredns", namespace: "kube-system" },
          data: { Corefile: kubeadmCorefile },
        });
        return cluster;
      },
      wrong: ['what forwarded "global" was put back'],
    },
    {
      it: "`ready` missing while the probe asks for it",
      make: () =>
        healthy({
          corefile: kubeadmCorefile.replace("    ready\n", ""),
          readiness: { httpGet: { path: "/ready", port: 8181 } },
        }),
      wrong: ["the Corefile has no `ready`, so no pod of the DNS becomes ready"],
    },
    {
      it: "no endpoint of ours",
      make: async () => {
        const cluster = await healthy();
        for (const object of meshDns(["10.96.7.7"], 0)) cluster.put(object);
        return cluster;
      },
      wrong: ["nobody stands behind the mesh's DNS"],
    },
    {
      it: "an address that moved",
      make: async () => {
        const cluster = await healthy();
        for (const object of meshDns(["10.96.9.9"])) cluster.put(object);
        return cluster;
      },
      wrong: ['"global" goes to an address that is not the mesh\'s any more'],
    },
    {
      it: "a line that CoreDNS refuses",
      make: async () => {
        const cluster = await healthy();
        const text = cluster.data("kube-system/coredns")!["Corefile"]!.replace("forward . /etc", "proxy . /etc");
        cluster.put({ ...cluster.get("ConfigMap", "kube-system/coredns"), data: { Corefile: text } });
        return cluster;
      },
      wrong: ["CoreDNS does not load its Corefile"],
    },
    {
      it: "a cache on each node",
      make: async () => {
        const cluster = await healthy();
        const volume = { name: "config", configMap: { name: "node-local-dns" } };
        const container = {
          name: "node-cache",
          image: "x/k8s-dns-node-cache:1.23.1",
          args: ["-basecorefile", "/c/Corefile"],
          volumeMounts: [{ name: "config", mountPath: "/c" }],
        };
        const template = { spec: { containers: [container], volumes: [volume] } };
        const labels = { "k8s-app": "node-local-dns" };
        cluster.put({
          kind: "DaemonSet",
          metadata: { name: "node-local-dns", namespace: "kube-system", labels },
          spec: { template },
        });
        cluster.put({
          kind: "ConfigMap",
          metadata: { name: "node-local-dns", namespace: "kube-system" },
          data: { Corefile: ".:53 {\n    forward . /etc/resolv.conf\n    reload\n}\n" },
        });
        return cluster;
      },
      wrong: ['the cache on each node does not know "global"'],
    },
    {
      it: "a name that nobody made, with one that is near",
      make: () => healthy(),
      ask: { name: "htpbin.bar.global" },
      wrong: ['no ServiceEntry of this cluster has the host "htpbin.bar.global"'],
    },
    {
      it: "a name without its domain",
      make: () => healthy(),
      ask: { name: "httpbin.bar" },
      maybe: ['"httpbin.bar" needs a search domain to become "httpbin.bar.global"'],
    },
    {
      it: "a name of the cluster's own, whatever its domain is",
      make: () => healthy({ corefile: kubeadmCorefile.replace("cluster.local", "example.internal") }),
      ask: { name: "httpbin.bar.svc.example.internal" },
      maybe: ['"httpbin.bar.svc.example.internal" is a name of this cluster\'s own'],
    },
    {
      it: "a name of another kind",
      make: () => healthy(),
      ask: { name: "www.example.com" },
      wrong: ['"www.example.com" is no name of the mesh'],
    },
    {
      it: "an entry for other namespaces",
      make: () => healthy({}, [entry("httpbin", { exportTo: ["."] })]),
      ask: { from: "other" },
      wrong: ['the name is not for namespace "other"'],
    },
    {
      it: "an entry for its own namespace, asked there",
      make: () => healthy({}, [entry("httpbin", { exportTo: ["."] })]),
      ask: { from: "foo" },
    },
    {
      it: "two entries with one address",
      make: () => healthy({}, [entry("httpbin", {}), entry("other", { hosts: ["other.bar.global"] })]),
      wrong: ["the address 240.0.0.2 is there twice"],
    },
    {
      it: "an entry whose status says no",
      make: () =>
        healthy({}, [
          entry("httpbin", {}, { status: { conditions: [{ type: "Accepted", status: "False", message: "why" }] } }),
        ]),
      wrong: ["ServiceEntry foo/httpbin is not as it should be: Accepted"],
    },
    {
      it: "a pod with another DNS",
      make: () => healthy({ more: [pod({ dnsPolicy: "None" })] }),
      ask: { from: "foo/sleep" },
      wrong: ["the pod does not ask the cluster's DNS"],
    },
    {
      it: "a pod on the host's network",
      make: () => healthy({ more: [pod({ hostNetwork: true })] }),
      ask: { from: "foo/sleep" },
      wrong: ["the pod does not ask the cluster's DNS"],
    },
    {
      it: "a pod without the search domain",
      make: () => healthy({ more: [pod({})] }),
      ask: { from: "foo/sleep", name: "httpbin.bar" },
      wrong: ['the pod has no search domain "global", so "httpbin.bar" stays what it is'],
      maybe: ['"httpbin.bar" needs a search domain to become "httpbin.bar.global"'],
    },
    {
      it: "a pod whose proxy answers, which is no matter of the cluster's DNS",
      make: () =>
        healthy({
          more: [
            pod({
              dnsPolicy: "None",
              containers: [{ name: "istio-proxy", args: ["proxy", "--dns-listen", "127.0.0.1:15053"] }],
            }),
          ],
        }),
      ask: { from: "foo/sleep" },
      maybe: ["the pod does not ask the cluster's DNS"],
    },
    {
      it: "a policy in front of the mesh's DNS",
      make: () =>
        healthy({
          more: [
            {
              kind: "NetworkPolicy",
              metadata: { name: "deny", namespace: "isthmus-system" },
              spec: { podSelector: {} },
            },
          ],
        }),
      maybe: ["a policy may keep the cluster's DNS from the mesh's"],
    },
  ];
  for (const { it, make, ask, wrong = [], maybe = [] } of cases) {
    test(it, async () => {
      const result = await found(await make(), ask);
      expect({ wrong: result.wrong, maybe: result.maybe }).toEqual({ wrong, maybe });
      for (const finding of result.all) {
        expect(finding.evidence).not.toBe("");
        if (finding.level === "wrong" && finding.what.startsWith("the c")) expect(finding.mend).toBeDefined();
      }
    });
  }

  test("says which host is near", async () => {
    const { all } = await found(await healthy(), { name: "htpbin.bar.global" });
    expect(all.find(({ level }) => level === "wrong")!.mend).toBe('did you mean "httpbin.bar.global"?');
  });
  test("asks both servers where they can be reached, and believes only who is of the cluster", async () => {
    const cluster = await healthy();
    const asker =
      (own: boolean): Ask =>
      async ({ ip }, name) => {
        if (name.startsWith("kubernetes."))
          return own ? { kind: "addresses", addresses: ["10.96.0.1"] } : { kind: "no-name" };
        return ip === "10.96.7.7"
          ? { kind: "addresses", addresses: ["240.0.0.2"] }
          : { kind: "failed", code: "ESERVFAIL" };
      };
    expect((await found(cluster, {}, asker(true))).wrong).toEqual(["the cluster's DNS cannot say"]);
    expect((await found(cluster, {}, asker(false))).wrong).toEqual([]);
  });
  test("knows a server of the cluster by the cluster's own domain", async () => {
    const asked: string[] = [];
    const ask: Ask = async (_server, name) => {
      asked.push(name);
      return { kind: "no-name" };
    };
    await found(await healthy({ corefile: kubeadmCorefile.replace("cluster.local", "example.internal.") }), {}, ask);
    await found(await healthy(), {}, ask);
    const kubedns = { name: "kubedns", image: "gke/k8s-dns-kube-dns:1.22.28", args: ["--domain=other.internal."] };
    const cluster = coreDnsCluster();
    const dns = cluster.get("Deployment", "kube-system/coredns")!;
    cluster.put({ ...dns, spec: { ...(dns["spec"] as object), template: { spec: { containers: [kubedns] } } } });
    await found(withEntry(cluster), {}, ask);
    expect([...new Set(asked)]).toEqual([
      "kubernetes.default.svc.example.internal",
      "kubernetes.default.svc.cluster.local",
      "kubernetes.default.svc.other.internal",
    ]);
  });
  test("a pod that is not there is a failure, not a finding", async () => {
    await expect(found(await healthy(), { from: "foo/nobody" })).rejects.toMatchObject({ code: "kube/not-found" });
  });
});

function withEntry(cluster: FakeCluster): FakeCluster {
  cluster.put(entry("httpbin", {}));
  return cluster;
}
