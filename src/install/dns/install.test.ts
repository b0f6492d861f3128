import { describe, expect, test } from "vitest";
import { parseIp } from "../../values/index.ts";
import { type DnsInstallWish, installClusterDns, removeClusterDns } from "./install.ts";
import { reloadHash } from "./loaded.ts";
import { type DnsStatus, statusOfClusterDns } from "./status.ts";
import { coreDnsCluster, type FakeCluster, fakeCluster, kubeadmCorefile, meshDns } from "./testdata/fake-cluster.ts";

const wish: DnsInstallWish = {
  domains: ["global"],
  ips: undefined,
  form: undefined,
  version: undefined,
  nodeLocal: false,
  replace: false,
  complete: false,
  force: false,
  dryRun: false,
  restart: false,
  waitMs: 0,
};
const removal = { domains: undefined, dryRun: false, restart: false, waitMs: 0 };
const install = (cluster: FakeCluster, over: Partial<DnsInstallWish> = {}) =>
  installClusterDns({ ...wish, ...over }, cluster.deps);
const remove = (cluster: FakeCluster) => removeClusterDns(removal, cluster.deps);
const status = (cluster: FakeCluster): Promise<DnsStatus> =>
  statusOfClusterDns({ form: undefined, version: undefined, domains: undefined, ips: undefined }, cluster.deps);
const states = async (cluster: FakeCluster) =>
  (await status(cluster)).targets.flatMap(({ domains }) => domains.map(({ state }) => state.kind));
const writes = ({ requests }: FakeCluster) => requests.filter((request) => !request.startsWith("GET"));

describe("CoreDNS", () => {
  test("is told once, renewed when the Service moved, and left as it was", async () => {
    const cluster = coreDnsCluster();
    expect(await states(cluster)).toEqual(["absent"]);
    const { written } = await install(cluster);
    expect(written.map(({ target, wrote }) => [target.kind, wrote])).toEqual([["corefile", true]]);
    expect(cluster.data("kube-system/coredns")!["Corefile"]).toContain(
      "global:53 {\n    errors\n    cache 30\n    forward . 10.96.7.7:53\n}",
    );
    expect(await states(cluster)).toEqual(["right"]);
    const before = writes(cluster).length;
    expect((await install(cluster)).written[0]!.wrote).toBe(false);
    expect(writes(cluster).length).toBe(before);

    for (const object of meshDns(["10.96.8.8", "fd00::8"])) cluster.put(object);
    expect(await states(cluster)).toEqual(["stale"]);
    await install(cluster);
    expect(cluster.data("kube-system/coredns")!["Corefile"]).toContain("forward . 10.96.8.8:53 [fd00::8]:53");

    await remove(cluster);
    expect(cluster.data("kube-system/coredns")).toEqual({ Corefile: kubeadmCorefile, other: "kept" });
    expect(cluster.get("ConfigMap", "isthmus-system/isthmus-cluster-dns")).toBeUndefined();
    expect((await remove(cluster)).written).toEqual([]);
  });

  test("a write that somebody was faster at is made anew of what they wrote", async () => {
    const cluster = coreDnsCluster();
    const theirs = `${kubeadmCorefile}corp:53 {\n    forward . 10.0.0.1\n}\n`;
    cluster.beforeWrite = () =>
      cluster.put({
        kind: "ConfigMap",
        metadata: { name: "coredns", namespace: "kube-system" },
        data: { Corefile: theirs },
      });
    const installing = install(cluster);
    for (let turn = 0; turn < 50; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      (cluster.deps.clock as unknown as { advance(ms: number): void }).advance(1_000);
    }
    await installing;
    expect(cluster.data("kube-system/coredns")!["Corefile"]!.startsWith(theirs)).toBe(true);
    expect(await states(cluster)).toEqual(["right"]);
    await remove(cluster);
    expect(cluster.data("kube-system/coredns")!["Corefile"]).toBe(theirs);
  });

  test("a dry run writes nothing", async () => {
    const cluster = coreDnsCluster();
    const { written } = await install(cluster, { dryRun: true });
    expect(written[0]!.change.after).toContain("global:53 {");
    expect(writes(cluster)).toEqual([]);
  });

  test("what was put back is told, with who wrote last", async () => {
    const cluster = coreDnsCluster({ labels: { "addonmanager.kubernetes.io/mode": "Reconcile" } });
    const { warnings } = await install(cluster);
    expect(warnings.join()).toContain("add-on manager");
    const managedFields = [
      { manager: "kubectl", time: "2024-01-01T00:00:00Z" },
      { manager: "eks", time: "2024-02-01T00:00:00Z" },
    ];
    cluster.put({
      kind: "ConfigMap",
      metadata: { name: "coredns", namespace: "kube-system", managedFields },
      data: { Corefile: kubeadmCorefile },
    });
    expect((await status(cluster)).targets[0]!.domains[0]!.state).toEqual({
      kind: "reverted",
      by: "eks",
      time: "2024-02-01T00:00:00Z",
    });
  });

  test("a file that it would not load is not written", async () => {
    const broken = kubeadmCorefile.replace("forward .", "proxy .");
    const cluster = coreDnsCluster({ corefile: broken });
    await expect(install(cluster)).rejects.toThrow(/line 8: CoreDNS 1.11.1 has no "proxy", which went with 1.5.0/);
    expect(writes(cluster)).toEqual([]);
    await install(cluster, { force: true });
    await remove(cluster);
    expect(cluster.data("kube-system/coredns")!["Corefile"]).toBe(broken);
  });

  test("a zone of somebody else's stops all of it", async () => {
    const theirs = `${kubeadmCorefile}global:53 {\n    forward . 10.0.0.9\n}\n`;
    const cluster = coreDnsCluster({ corefile: theirs });
    await expect(install(cluster)).rejects.toMatchObject({
      code: "clusterdns/zone-taken",
      hint: expect.stringContaining("--replace"),
    });
    await expect(install(cluster)).rejects.toThrow(/line 12: global:53 {/);
    expect(await states(cluster)).toEqual(["taken"]);
    await install(cluster, { replace: true });
    expect(await states(cluster)).toEqual(["right"]);
    await remove(cluster);
    expect(cluster.data("kube-system/coredns")!["Corefile"]).toBe(theirs);
  });

  const images: ReadonlyArray<readonly [image: string, form: string]> = [
    ["k8s.gcr.io/coredns:1.3.1", "coredns-before-1.4.0"],
    ["mirror.example:5000/x/coredns:v1.4.0@sha256:00", "coredns-1.4.0"],
    ["1.dkr.ecr.example/eks/coredns:v1.11.1-eksbuild.4", "coredns-after-1.4.0"],
    ["rancher/mirrored-coredns-coredns:1.10.1", "coredns-after-1.4.0"],
  ];
  for (const [image, form] of images) {
    test(`${image} takes ${form}`, async () => {
      const corefile = ".:53 {\n    forward . /etc/resolv.conf\n}\n";
      const { written } = await install(coreDnsCluster({ image, corefile }), { dryRun: true });
      expect((written[0]!.target as { form: string }).form).toBe(form);
    });
  }
  test("an image without a version is asked for it in its metrics, else the user is", async () => {
    const cluster = coreDnsCluster({ image: "corp/dns@sha256:00" });
    await expect(install(cluster)).rejects.toMatchObject({ code: "clusterdns/version-unknown" });
    cluster.metrics = () => 'coredns_build_info{goversion="go1.23",revision="x",version="1.12.0"} 1\n';
    expect((await install(cluster, { dryRun: true })).found.version).toEqual([1, 12, 0]);
    cluster.metrics = undefined;
    expect((await install(cluster, { dryRun: true, version: [1, 9, 0] })).written[0]!.target).toMatchObject({
      form: "coredns-after-1.4.0",
    });
  });

  test("is seen to have loaded it, or to have refused it", async () => {
    const cluster = coreDnsCluster();
    let failures = 0;
    cluster.metrics = () => {
      const text = cluster.data("kube-system/coredns")!["Corefile"]!;
      return `coredns_reload_version_info{hash="sha512",value="${reloadHash(text, () => [], "sha512")}"} 1\ncoredns_reload_failed_total ${failures}\n`;
    };
    expect((await install(cluster)).written[0]!.loading).toEqual({ kind: "loaded", pods: 1 });
    for (const object of meshDns(["10.96.8.8"])) cluster.put(object);
    cluster.beforeWrite = () => failures++;
    expect((await install(cluster)).written[0]!.loading).toMatchObject({ kind: "refused", pod: "coredns-1" });
  });
});

describe("a cluster that imports files of its owner", () => {
  const managed = `${kubeadmCorefile}import custom/*.server\n`;
  const custom = {
    corefile: managed,
    volumes: [{ name: "custom", configMap: { name: "coredns-custom", optional: true } }],
    mounts: [{ name: "custom", mountPath: "/etc/coredns/custom" }],
  };
  test("gets one of ours, and its Corefile is not touched", async () => {
    const cluster = coreDnsCluster(custom);
    await install(cluster);
    expect(cluster.data("kube-system/coredns")!["Corefile"]).toBe(managed);
    expect(cluster.data("kube-system/coredns-custom")!["isthmus.server"]).toContain("global:53 {\n    errors");
    expect(await states(cluster)).toEqual(["right"]);
    await remove(cluster);
    expect(cluster.data("kube-system/coredns-custom")).toBeUndefined();
  });
  test("keeps what others put there meanwhile", async () => {
    const cluster = coreDnsCluster(custom);
    await install(cluster);
    const data = { ...cluster.data("kube-system/coredns-custom"), "corp.server": "corp:53 {\n  errors\n}\n" };
    cluster.put({ ...cluster.get("ConfigMap", "kube-system/coredns-custom"), data });
    await remove(cluster);
    expect(cluster.data("kube-system/coredns-custom")).toEqual({ "corp.server": data["corp.server"] });
  });
  test("a zone in another of these files is a conflict that names it", async () => {
    const data = { "old.server": "\nglobal:53 {\n  errors\n}\n" };
    const cluster = coreDnsCluster({
      ...custom,
      more: [{ kind: "ConfigMap", metadata: { name: "coredns-custom", namespace: "kube-system" }, data }],
    });
    await expect(install(cluster)).rejects.toThrow(
      "/etc/coredns/custom/old.server, line 2: global:53 { (it stands in another file)",
    );
  });
});

describe("kube-dns", () => {
  const kubeDns = (data?: object) =>
    fakeCluster([
      {
        kind: "Deployment",
        metadata: { name: "kube-dns", namespace: "kube-system", labels: { "k8s-app": "kube-dns" } },
        spec: {
          selector: { matchLabels: {} },
          template: { spec: { containers: [{ name: "kubedns", image: "gke/k8s-dns-kube-dns:1.22.28" }] } },
        },
      },
      ...(data === undefined
        ? []
        : [{ kind: "ConfigMap", metadata: { name: "kube-dns", namespace: "kube-system" }, data }]),
      ...meshDns(["10.96.7.7"]),
    ]);
  const texts = [undefined, "{}", '{"corp": ["10.0.0.1"]}', '{\n  "corp": ["10.0.0.1"],\n  "x" : [ "1.1.1.1" ]\n}\n'];
  for (const text of texts) {
    test(`${JSON.stringify(text)} is merged with, and left as it was`, async () => {
      const data = text === undefined ? { upstreamNameservers: '["8.8.8.8"]' } : { stubDomains: text };
      const cluster = kubeDns(data);
      await install(cluster);
      const written = JSON.parse(cluster.data("kube-system/kube-dns")!["stubDomains"]!);
      expect(written).toEqual({ ...JSON.parse(text ?? "{}"), global: ["10.96.7.7"] });
      expect(await states(cluster)).toEqual(["right"]);
      expect((await install(cluster)).written[0]!.wrote).toBe(false);
      await install(cluster, { ips: [parseIp("10.1.1.1")!] });
      await remove(cluster);
      expect(cluster.data("kube-system/kube-dns")).toEqual(data);
      expect(cluster.get("ConfigMap", "kube-system/kube-dns")!.metadata["annotations"]).toEqual({});
    });
  }
  test("without a ConfigMap gets one, which goes again", async () => {
    const cluster = kubeDns();
    await install(cluster);
    expect(cluster.data("kube-system/kube-dns")).toEqual({ stubDomains: '{"global": ["10.96.7.7"]}' });
    await remove(cluster);
    expect(cluster.get("ConfigMap", "kube-system/kube-dns")).toBeUndefined();
  });
  test("only ours goes when somebody wrote meanwhile", async () => {
    const cluster = kubeDns({ stubDomains: '{"corp": ["10.0.0.1"]}' });
    await install(cluster);
    const stubDomains = '{"corp": ["10.0.0.2"],"global": ["10.96.7.7"], "new": ["1.1.1.1"]}';
    cluster.put({ ...cluster.get("ConfigMap", "kube-system/kube-dns"), data: { stubDomains } });
    await remove(cluster);
    expect(cluster.data("kube-system/kube-dns")).toEqual({ stubDomains: '{"corp": ["10.0.0.2"], "new": ["1.1.1.1"]}' });
  });
  test("a zone of somebody else's is left, or replaced and put back", async () => {
    const stubDomains = '{"global": ["10.0.0.9"]}';
    const cluster = kubeDns({ stubDomains });
    await expect(install(cluster)).rejects.toThrow('"global": ["10.0.0.9"]');
    await install(cluster, { replace: true });
    expect(await states(cluster)).toEqual(["right"]);
    cluster.put({
      ...cluster.get("ConfigMap", "kube-system/kube-dns"),
      data: { stubDomains: '{"global": ["10.96.7.7"] }' },
    });
    await remove(cluster);
    expect(cluster.data("kube-system/kube-dns")).toEqual({ stubDomains: '{"global": ["10.0.0.9"] }' });
  });
  test("what is no JSON is not written over", async () => {
    await expect(install(kubeDns({ stubDomains: "{global}" }))).rejects.toMatchObject({
      code: "clusterdns/stub-domains",
    });
  });
});

describe("a cache on each node", () => {
  const cache = (mounts: readonly object[]) => [
    {
      kind: "DaemonSet",
      metadata: { name: "node-local-dns", namespace: "kube-system", labels: { "k8s-app": "node-local-dns" } },
      spec: {
        selector: { matchLabels: { "k8s-app": "node-local-dns" } },
        template: {
          spec: {
            containers: [
              {
                name: "node-cache",
                image: "registry.k8s.io/dns/k8s-dns-node-cache:1.23.1",
                args: ["-localip", "169.254.20.10", "-conf", "/etc/Corefile"],
                volumeMounts: [{ name: "config", mountPath: "/etc/coredns" }, ...mounts],
              },
            ],
            volumes: [
              {
                name: "config",
                configMap: { name: "node-local-dns", items: [{ key: "Corefile", path: "Corefile.base" }] },
              },
              { name: "kube-dns-config", configMap: { name: "kube-dns", optional: true } },
            ],
          },
        },
      },
    },
    { kind: "ConfigMap", metadata: { name: "node-local-dns", namespace: "kube-system" }, data: { Corefile: base } },
  ];
  const base =
    ".:53 {\n    errors\n    bind 169.254.20.10 10.96.0.10\n    forward . __PILLAR__UPSTREAM__SERVERS__\n    reload\n}\n";
  test("is told of, and told when asked to: by stub domains, which it reads", async () => {
    const cluster = coreDnsCluster({ more: cache([{ name: "kube-dns-config", mountPath: "/etc/kube-dns" }]) });
    expect((await install(cluster)).warnings.join()).toContain("--node-local");
    expect(await states(cluster)).toEqual(["right", "absent"]);
    await install(cluster, { nodeLocal: true });
    expect(await states(cluster)).toEqual(["right", "right"]);
    expect(cluster.data("kube-system/kube-dns")).toEqual({ stubDomains: '{"global": ["10.96.7.7"]}' });
    await remove(cluster);
    expect(cluster.get("ConfigMap", "kube-system/kube-dns")).toBeUndefined();
  });
  test("else by a block that binds what its own binds", async () => {
    const cluster = coreDnsCluster({ more: cache([]) });
    await install(cluster, { nodeLocal: true });
    expect(cluster.data("kube-system/node-local-dns")!["Corefile"]).toContain(
      "    bind 169.254.20.10 10.96.0.10\n    forward . 10.96.7.7:53\n",
    );
    await remove(cluster);
    expect(cluster.data("kube-system/node-local-dns")!["Corefile"]).toBe(base);
  });
});

describe("what is not there", () => {
  test("no DNS that is known", async () => {
    await expect(install(fakeCluster(meshDns(["10.96.7.7"])))).rejects.toMatchObject({ code: "clusterdns/none" });
  });
  test("no Service of the mesh, or a headless one", async () => {
    const cluster = coreDnsCluster();
    for (const object of meshDns(["None"])) cluster.put(object);
    await expect(install(cluster)).rejects.toMatchObject({ code: "clusterdns/no-address" });
    await cluster.deps.api.delete({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "isthmus-dns", namespace: "isthmus-system" },
    });
    await expect(install(cluster)).rejects.toMatchObject({ code: "clusterdns/no-service" });
  });
  test("no endpoint behind it", async () => {
    const cluster = coreDnsCluster();
    for (const object of meshDns(["10.96.7.7"], 0)) cluster.put(object);
    const result = await install(cluster);
    expect(result.warnings.join()).toContain("no ready endpoint");
    expect((await status(cluster)).good).toBe(false);
  });
});
