import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../../src/base/index.ts";
import { buildZone, startDnsServer } from "../../src/dns/index.ts";
import { parseHostname, parseIp } from "../../src/values/index.ts";
import {
  type ClusterWithDns,
  type Ground,
  hasMachinery,
  ownAddress,
  startClusterDns,
  startClusters,
} from "./clusters.ts";
import { answerOf, corednsBinaries, notAble } from "./coredns.ts";

const binary = corednsBinaries().at(-1);
const able = process.getuid?.() === 0 && binary !== undefined && hasMachinery() && ownAddress() !== undefined;
const mesh = parseIp("127.77.3.53")!;
const loopback = parseIp("127.0.0.1")!;
const scope = new Scope();
let ground: Ground;
const dns: Record<string, ClusterWithDns> = {};

// cluster1's Corefile is its owner's to change; cluster2's is managed, and imports the files of coredns-custom.
beforeAll(async () => {
  if (!able) return;
  const names = [{ name: parseHostname("httpbin.bar.global")!, addresses: [parseIp("240.0.0.2")!] }];
  const zone = new Cell(buildZone({ suffixes: [parseHostname("global")!], names }));
  await startDnsServer(
    { listen: [{ ip: mesh, port: 53 }], zone, log: silentLogger, metrics: new Metrics(), clock: systemClock },
    scope,
  );
  ground = await startClusters();
  dns["cluster1"] = await startClusterDns(ground, { context: "cluster1", binary: binary!, custom: false });
  dns["cluster2"] = await startClusterDns(ground, { context: "cluster2", binary: binary!, custom: true });
});
afterAll(async () => {
  for (const one of Object.values(dns)) await one.stop();
  await ground?.stop();
  await scope.close();
});

const both = ["--context", "cluster1", "--context", "cluster2"];
/** A name server that takes a new configuration, or is slow to be answered itself, may fail one question. */
const answers = (cluster: string, name: string) =>
  expect.poll(() => answerOf({ ip: loopback, port: dns[cluster]!.port }, name), { timeout: 60_000, interval: 500 });
const configMap = async (cluster: string, name: string) => {
  const api = await ground.api(cluster);
  return await api.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "kube-system" } });
};
const dataOf = async (cluster: string, name: string) => (await configMap(cluster, name))?.["data"];

if (!able) test("two clusters", notAble);
describe.skipIf(!able)("two clusters, with real API servers and CoreDNS", () => {
  // What a test that failed has left is not the next one's, nor its own second run's.
  beforeEach(() => ground.isthmus("dns", "remove", ...both));

  test("are told, load it, say so, answer, and are as they were", async () => {
    const before = await ground.isthmus("dns", "status", ...both, "--ip", mesh);
    expect(before.code, before.output).toBe(1);
    expect(before.output).toContain("global: not installed");

    const installed = await ground.isthmus("dns", "install", ...both, "--ip", mesh, "--wait", "150s");
    expect(installed.code, installed.output).toBe(0);
    expect(installed.output).toContain("cluster1: loaded by 1 pod");
    expect(installed.output).toContain("cluster2: loaded by 1 pod");
    for (const cluster of ["cluster1", "cluster2"]) {
      await answers(cluster, "httpbin.bar.global").toBe("240.0.0.2");
      await answers(cluster, "nobody.bar.global").toBe("no-name");
      await answers(cluster, "kubernetes.default.svc.cluster.local").toBe("10.96.0.1");
    }
    expect(await dataOf("cluster2", "coredns")).toEqual({ Corefile: dns["cluster2"]!.corefile });
    const after = await ground.isthmus("dns", "status", ...both, "--ip", mesh);
    expect(after.code, after.output).toBe(0);
    const twice = await ground.isthmus("dns", "install", ...both, "--ip", mesh, "--wait", "0");
    expect(twice.output.match(/nothing to change/g)).toHaveLength(2);

    const removed = await ground.isthmus("dns", "remove", ...both, "--wait", "150s");
    expect(removed.code, removed.output).toBe(0);
    expect(await dataOf("cluster1", "coredns")).toEqual({ Corefile: dns["cluster1"]!.corefile });
    expect(await dataOf("cluster2", "coredns")).toEqual({ Corefile: dns["cluster2"]!.corefile });
    expect(await configMap("cluster2", "coredns-custom")).toBeUndefined();
    // CoreDNS refuses or fails what no block of it is for.
    await answers("cluster1", "nobody2.bar.global").toBe("failed");
    const again = await ground.isthmus("dns", "remove", ...both);
    expect(again.output).toContain("cluster1: there is nothing of the mesh in this cluster's DNS");
  }, 600_000);

  test("an owner who writes at the same moment loses nothing, and neither do we", async () => {
    const api = await ground.api("cluster1");
    const path = "/api/v1/namespaces/kube-system/configmaps/coredns";
    let writing = true;
    let count = 0;
    const owner = (async () => {
      while (writing) {
        const body = { data: { count: String(++count) } };
        await api.client.json({ method: "PATCH", path, body, contentType: "application/merge-patch+json" });
        await new Promise((resolve) => setTimeout(resolve, 60));
      }
    })();
    const results = await Promise.all([
      ground.isthmus("dns", "install", "--context", "cluster1", "--ip", mesh, "--wait", "0"),
      ground.isthmus(
        "dns",
        "install",
        "--context",
        "cluster1",
        "--domain",
        "mesh.example",
        "--ip",
        mesh,
        "--wait",
        "0",
      ),
    ]);
    writing = false;
    await owner;
    for (const { code, output } of results) expect(code, output).toBe(0);
    const data = (await dataOf("cluster1", "coredns")) as Record<string, string>;
    expect(data["count"]).toBe(String(count));
    expect(data["Corefile"]).toContain("# isthmus dns begin global\n");
    expect(data["Corefile"]).toContain("# isthmus dns begin mesh.example\n");
    await ground.isthmus("dns", "remove", "--context", "cluster1");
    expect(((await dataOf("cluster1", "coredns")) as Record<string, string>)["Corefile"]).toBe(
      dns["cluster1"]!.corefile,
    );
  });

  test("a manager who puts it back is told of, by status and by the doctor", async () => {
    await ground.isthmus("dns", "install", "--context", "cluster1", "--ip", mesh, "--wait", "0");
    const manifest = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "coredns", namespace: "kube-system" },
      data: { Corefile: dns["cluster1"]!.corefile },
    };
    await ground.kubectl(
      "cluster1",
      ["apply", "--server-side", "--force-conflicts", "--field-manager=eks", "-f", "-"],
      JSON.stringify(manifest),
    );
    const { code, output } = await ground.isthmus("dns", "status", "--context", "cluster1", "--ip", mesh);
    expect(code, output).toBe(1);
    expect(output).toContain("global: was installed and is gone: eks wrote last");
    await ground.isthmus("dns", "remove", "--context", "cluster1");
  });

  let broke = 0;
  test("what CoreDNS refuses is refused by us first, and seen when forced", async () => {
    // Another one each time: CoreDNS does not try again what it has refused.
    const proxy = `    proxy . 127.0.0.${++broke}\n`;
    const broken = dns["cluster1"]!.corefile.replace("    errors\n", `    errors\n${proxy}`);
    const put = async (text: string) =>
      await ground.kubectl("cluster1", [
        "-n",
        "kube-system",
        "patch",
        "configmap",
        "coredns",
        "--type=merge",
        "-p",
        JSON.stringify({ data: { Corefile: text } }),
      ]);
    await put(broken);
    const refused = await ground.isthmus("dns", "install", "--context", "cluster1", "--ip", mesh);
    expect(refused.code).toBe(2);
    expect(refused.output).toContain("line 3: CoreDNS");
    expect(await dataOf("cluster1", "coredns")).toMatchObject({ Corefile: broken });
    const forced = await ground.isthmus(
      "dns",
      "install",
      "--context",
      "cluster1",
      "--ip",
      mesh,
      "--force",
      "--wait",
      "120s",
    );
    expect(forced.code, forced.output).toBe(1);
    expect(forced.output).toContain("pod coredns-1 refused it");
    await put(dns["cluster1"]!.corefile);
  });
});
