import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { askLab } from "../../src/lab/protocol.ts";
import { missingOf } from "../requirements.ts";
import { processes } from "./belongings.ts";
import { eventually, root } from "./isthmus.ts";
import { cluster, remoteService, type TestLab, upLab } from "./lab.ts";

const missing = missingOf(["envoy", "root", "netns", "iptables", "curl"]);
/** How long a workload's certificate is good. */
const lifeS = 60;

/** The life of Envoys under their agents: certificates, restarts, and control planes that go away. */
describe.skipIf(missing !== undefined)(`a mesh of Envoys${missing === undefined ? "" : ` (${missing})`}`, () => {
  let lab: TestLab;
  let folder: string;

  beforeAll(async () => {
    // Each is renewed when two to three fifths of its time are over.
    const args = ["--mode", "netns", "--data-plane", "envoy", "--workload-cert-ttl", `${lifeS}s`];
    lab = await upLab({ name: "envoy-life", args, timeoutMs: 240_000 });
    folder = (await lab.status()).stateFolder;
  }, 260_000);
  afterAll(() => lab?.down(), 60_000);

  const url = "http://httpbin.bar.global:8000/headers";
  const call = async () => (await lab.exec("cluster1", "sleep", "curl", "-s", "-i", "-m", "3", url)).stdout;
  const works = (answer: string) => /^HTTP\/1\.1 200/.test(answer);
  const admin = async (of: string, workload: string) =>
    (await askLab(lab.name, { op: "target", lab: lab.name, cluster: of, workload })).admin!;
  /** The agent, or the Envoy, of a pod. */
  const processOf = async (kind: "agent" | "envoy", of: string, workload: string) => {
    const socket = await admin(of, workload);
    const words = kind === "agent" ? [`main.js\0agent`, socket] : ["envoy\0-c\0", socket.replace("admin.sock", "run/")];
    return processes().find(({ command }) => words.every((word) => command.includes(word)))?.pid;
  };
  const controlPlane = (of: string) =>
    processes().find(
      ({ command }) => command.includes(`main.js\0controlplane\0--cluster\0${of}\0`) && command.includes(folder),
    )?.pid;
  const logOf = async (of: string, workload: string) =>
    (await lab.command("logs", of, workload, "-c", "istio-proxy")).stdout;
  /** Calls without pause until what is done meanwhile is done; what failed. */
  async function underLoad(
    during: () => Promise<void>,
  ): Promise<{ requests: number; failed: number; failures: unknown[] }> {
    const stop = join(lab.dir, `stop-${Math.random()}`);
    const tool = [process.execPath, join(root, "checks/e2e/tools/load.mjs"), url];
    const options = ["--connections", "2", "--requests", "50", "--seconds", "250", "--stop-file", stop];
    const load = lab.execFor(300, "cluster1", "sleep", ...tool, ...options);
    try {
      await during();
    } finally {
      await lab.exec("cluster1", "sleep", "touch", stop);
    }
    const { stdout, stderr } = await load;
    if (stdout === "") throw new Error(stderr);
    return JSON.parse(stdout) as { requests: number; failed: number; failures: unknown[] };
  }

  const entry = async (name: string, vip: string) =>
    remoteService({
      host: `${name}.bar.global`,
      gateway: cluster(await lab.status(), "cluster2").gateway.address,
      vip,
    });
  /** Names at the agent, configuration at Envoy. */
  async function arrives(name: string, vip: string): Promise<void> {
    const listed = () => lab.exec("cluster1", "sleep", "curl", "-s", "http://127.0.0.1:15000/clusters?format=json");
    await eventually(listed, ({ stdout }) => stdout.includes(`${name}.bar.global`), 60_000);
    const resolves = () => lab.exec("cluster1", "sleep", "getent", "hosts", `${name}.bar.global`);
    await eventually(resolves, ({ stdout }) => stdout.includes(vip), 60_000);
  }

  test("nobody but the pod itself reaches Envoy's admin interface, and nobody but its user the keys", async () => {
    const { stdout } = await lab.exec("cluster1", "sleep", "ss", "-ltnH");
    const admins = stdout.split("\n").filter((line) => /:15000\s/.test(line));
    expect(admins).toHaveLength(1);
    expect(admins[0]).toMatch(/\s127\.0\.0\.1:15000\s/);
    const run = (await admin("cluster1", "sleep")).replace("admin.sock", "run");
    expect(statSync(run).mode & 0o777).toBe(0o700);
    expect(statSync(join(run, "sds.sock")).mode & 0o777).toBe(0o600);
    for (const name of readdirSync(run).filter((file) => statSync(join(run, file)).isFile()))
      expect(readFileSync(join(run, name), "latin1")).not.toContain("PRIVATE KEY");
  });

  test("Envoy says who it is as any agent's proxy does, and asks the control plane by mutual TLS", async () => {
    const socket = (await lab.status()).clusters[0]!.controlPlane.admin;
    const sync = await lab.exec("cluster1", "sleep", "curl", "-s", "http://127.0.0.1:15000/server_info");
    const { node } = JSON.parse(sync.stdout) as { node: { id: string; metadata: Record<string, unknown> } };
    expect(node.id).toMatch(/^sidecar~10\.\S+~sleep-[^~]*\.foo~foo\.svc\.cluster\.local$/);
    expect(node.metadata).toMatchObject({ CLUSTER_ID: "cluster1", NAMESPACE: "foo", INTERCEPTION_MODE: "REDIRECT" });
    expect(socket).toBeDefined();
    const clusters = await lab.exec(
      "cluster1",
      "sleep",
      "curl",
      "-s",
      "http://127.0.0.1:15000/stats?filter=^cluster.xds-grpc.ssl.handshake",
    );
    expect(clusters.stdout).toMatch(/ssl\.handshake: [1-9]/);
  });

  test("certificates are renewed while it serves, and no request fails", async () => {
    const serial = async () => {
      const { stdout } = await lab.exec("cluster1", "sleep", "curl", "-s", "http://127.0.0.1:15000/certs");
      return /"serial_number": "([^"]+)",/g.exec(stdout.slice(stdout.indexOf('"cert_chain"')))?.[1];
    };
    const first = await serial();
    expect(first).toBeDefined();
    const load = await underLoad(async () => {
      const { seen: second } = await eventually(serial, (now) => now !== undefined && now !== first, 90_000);
      await eventually(serial, (now) => now !== undefined && now !== second && now !== first, 90_000);
    });
    expect(load).toMatchObject({ failed: 0, failures: [] });
    expect(load.requests).toBeGreaterThan(50);
  }, 360_000);

  test("an Envoy that is killed is started again after a wait, and the log says why", async () => {
    const socket = await admin("cluster1", "sleep");
    const page = () => lab.exec("cluster1", "sleep", "curl", "-s", "--unix-socket", socket, "http://x/metrics");
    const restarts = (text: string) => Number(/^isthmus_envoy_restarts_total (\d+)$/m.exec(text)?.[1] ?? 0);
    // An earlier run of this may have left it on its way back.
    await eventually(call, works, 60_000);
    const begun = restarts((await page()).stdout);
    const before = await processOf("envoy", "cluster1", "sleep");
    process.kill(before!, "SIGKILL");
    const { seen: after } = await eventually(
      () => processOf("envoy", "cluster1", "sleep"),
      (pid) => pid !== undefined && pid !== before,
      60_000,
    );
    expect(after).not.toBe(before);
    await eventually(call, works, 60_000);
    expect(await logOf("cluster1", "sleep")).toMatch(
      /"why":"Envoy was ended by SIGKILL[^"]*","failures":1,"waitMs":\d+.*"Envoy ended by itself"/,
    );
    const metrics = await page();
    expect(restarts(metrics.stdout)).toBe(begun + 1);
    // One page for both, and a name with dots is one label.
    expect(metrics.stdout).toMatch(
      /^envoy_cluster_upstream_cx_total\{.*envoy_cluster_name="outbound\|8000\|\|httpbin\.bar\.global"/m,
    );
    expect(metrics.stdout).toMatch(
      /^envoy_http_downstream_rq_total\{envoy_http_conn_manager_prefix="outbound_[0-9._]+_8000"/m,
    );
    expect(metrics.stdout.match(/^# TYPE (\S+)/gm)!.length).toBe(new Set(metrics.stdout.match(/^# TYPE (\S+)/gm)).size);
  });

  test("a control plane that is started again finds its Envoys again, and no request fails", async () => {
    const before = controlPlane("cluster1");
    const load = await underLoad(async () => {
      process.kill(before!, "SIGKILL");
      await eventually(
        async () => ({
          ready: (await lab.status()).clusters.every(({ ready }) => ready),
          plane: controlPlane("cluster1"),
        }),
        ({ ready, plane }) => ready && plane !== undefined && plane !== before,
        90_000,
      );
      expect((await lab.apply("cluster1", await entry("later", "240.0.0.99"))).code).toBe(0);
      await arrives("later", "240.0.0.99");
    });
    expect(load).toMatchObject({ failed: 0, failures: [] });
  }, 360_000);

  /** How long the certificate is still good that this Envoy shows. */
  const leftMs = async (of: string, pod: string) => {
    const { stdout } = await lab.exec(of, pod, "curl", "-s", "-m", "5", "http://127.0.0.1:15000/certs");
    const ends = /"expiration_time": ?"([^"]+)"/.exec(stdout.slice(stdout.indexOf('"cert_chain"')))?.[1];
    return Date.parse(ends ?? "") - Date.now();
  };

  const proxies = [
    { it: "the caller's", of: "cluster1", pod: "sleep" },
    { it: "a gateway's", of: "cluster2", pod: "ingressgateway" },
    { it: "the service's", of: "cluster2", pod: "httpbin" },
  ] as const;
  for (const { it, of, pod } of proxies) {
    test(`${it} agent, killed while its control plane is away, brings Envoy back with what it was told last`, async () => {
      await eventually(call, works, 60_000);
      const file = (await admin(of, pod)).replace("admin.sock", "state");
      const written = () => {
        const found = readdirSync(file, { recursive: true, encoding: "utf8" }).find((name) =>
          name.endsWith("configuration.state"),
        );
        return found === undefined ? undefined : statSync(join(file, found)).mtimeMs;
      };
      // Nothing waits longer than ten seconds to be written.
      await eventually(
        async () => written(),
        (at) => at !== undefined && Date.now() - at > 11_000,
        60_000,
      );
      const plane = controlPlane(of)!;
      const before = await processOf("agent", of, pod);
      // Nobody renews a certificate while the control plane is away, and to come back may take long.
      const shown = of === "cluster1" ? [pod] : [...new Set([pod, "httpbin"])];
      await eventually(
        () => Promise.all(shown.map((one) => leftMs(of, one))),
        (left) => left.every((ms) => ms > lifeS * 600),
        120_000,
      );
      process.kill(plane, "SIGSTOP");
      try {
        process.kill(before!, "SIGKILL");
        await eventually(
          () => processOf("agent", of, pod),
          (pid) => pid !== undefined && pid !== before,
          60_000,
        );
        const { tookMs } = await eventually(call, works, 60_000);
        console.log(`${it} Envoy served ${Math.round(tookMs)} ms after its agent was started again`);
        if (pod === "sleep")
          expect((await lab.exec("cluster1", "sleep", "getent", "hosts", "httpbin.bar.global")).stdout).toMatch(
            /^240\./,
          );
      } finally {
        process.kill(plane, "SIGCONT");
      }
      // And then it is the control plane again that tells it.
      const streams = "http://127.0.0.1:15000/stats?filter=^cluster.(xds|kept)-grpc.upstream_rq_active";
      await eventually(
        () => lab.exec(of, pod, "curl", "-s", streams),
        ({ stdout }) =>
          /xds-grpc\.upstream_rq_active: [1-9]/.test(stdout) && /kept-grpc\.upstream_rq_active: 0/.test(stdout),
        60_000,
      );
      if (pod !== "sleep") return;
      expect((await lab.apply("cluster1", await entry("again", "240.0.0.98"))).code).toBe(0);
      await arrives("again", "240.0.0.98");
    }, 400_000);
  }
});
