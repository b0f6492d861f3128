import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type CacertsFiles,
  createIntermediate,
  createRoot,
  readCacertsFiles,
  writeCacerts,
} from "../../src/ca/index.ts";
import { askLab } from "../../src/lab/protocol.ts";
import { missingOf } from "../requirements.ts";
import { processes } from "./belongings.ts";
import { eventually, root } from "./isthmus.ts";
import { cluster, remoteService, type TestLab, upLab } from "./lab.ts";

const missing = missingOf(["envoy", "root", "netns", "iptables", "curl"]);

/** What a mesh of Envoys goes through while it is called: its root of trust is another, and its pods leave. */
describe.skipIf(missing !== undefined)(`Envoys that are called${missing === undefined ? "" : ` (${missing})`}`, () => {
  let lab: TestLab;
  let folder: string;
  const names = ["cluster1", "cluster2"] as const;
  const caFolder = (name: string) => join(folder, "clusters", name, "cacerts");
  /** What each cluster's CA had at first. */
  let before: Record<(typeof names)[number], CacertsFiles>;

  beforeAll(async () => {
    const args = ["--mode", "netns", "--data-plane", "envoy", "--workload-cert-ttl", "20s"];
    lab = await upLab({ name: "envoy-trust", args, timeoutMs: 240_000 });
    const status = await lab.status();
    folder = status.stateFolder;
    before = Object.fromEntries(
      await Promise.all(
        names.map(async (name) => [name, (await readCacertsFiles(caFolder(name))) as CacertsFiles] as const),
      ),
    ) as typeof before;
    const gateway = cluster(status, "cluster2").gateway.address;
    for (const [of, yaml] of [
      ["cluster2", echoTwice],
      ["cluster1", remoteService({ host: "echo.bar.global", gateway, vip: "240.0.0.50" })],
      ["cluster1", connectionForEachRequest],
    ] as const) {
      const applied = await lab.apply(of, yaml);
      if (applied.code !== 0) throw new Error(applied.stderr);
    }
  }, 260_000);
  afterAll(() => lab?.down(), 60_000);

  /** The load stops after this, whatever goes on. */
  const longestS = 300;
  const callers = ["cluster1", "sleep"] as const;
  /** Calls without pause until what is done meanwhile is done. */
  async function underLoad(url: string, during: () => Promise<void>): Promise<Loaded> {
    const stop = join(lab.dir, `stop-${Math.random()}`);
    const tool = [process.execPath, join(root, "checks/e2e/tools/load.mjs"), url];
    const options = ["--connections", "2", "--requests", "50", "--seconds", String(longestS), "--stop-file", stop];
    const load = lab.execFor(longestS + 60, ...callers, ...tool, ...options);
    try {
      await during();
    } finally {
      await lab.exec(...callers, "touch", stop);
    }
    const { stdout, stderr } = await load;
    if (stdout === "") throw new Error(stderr);
    return JSON.parse(stdout) as Loaded;
  }

  /** What Envoy itself shows its peers, and whom it believes. */
  async function shown([of, workload]: readonly [string, string]) {
    const url = "http://127.0.0.1:15000/config_dump?resource=dynamic_active_secrets";
    const { stdout } = await lab.exec(of, workload, "curl", "-s", "-m", "10", url);
    const { configs = [] } = JSON.parse(stdout || "{}") as {
      configs?: readonly { name: string; secret: SecretDump }[];
    };
    const secret = (name: string) => configs.find((one) => one.name === name)?.secret;
    return {
      chain: certificatesIn(secret("default")?.tls_certificate?.certificate_chain),
      roots: certificatesIn(secret("ROOTCA")?.validation_context?.trusted_ca),
    };
  }

  test("a pod that is stopped answers what it was asked, new calls go to the others, and it ends", async () => {
    const url = "http://echo.bar.global:8000";
    const pods = async () => {
      const { pods } = cluster(await lab.status(), "cluster2");
      return pods.filter(({ workload }) => workload === "echo");
    };
    const target = { cluster: "cluster2", workload: "echo", namespace: "bar" };
    // As its manifest says, where an earlier run of this test has left one.
    await askLab(lab.name, { op: "scale", lab: lab.name, ...target });
    await eventually(pods, (all) => all.length === 2 && all.every(({ ready }) => ready), 60_000);
    /** One line: when it was begun, what was answered, and the status. */
    const ask = (query = "", longestCallS = 60) =>
      `echo "$(date +%s%3N) $(curl -s -m ${longestCallS} -w ' %{http_code}' '${url}/${query}' | tr -d '\\n')"`;
    const inShell = async (script: string) =>
      [...(await lab.exec(...callers, "sh", "-c", script)).stdout.matchAll(/^(\d+) (.*) (\d+)$/gm)].map(
        ([, at, body, status]) => ({ at: Number(at), status, pod: /"pod": ?"([^"]+)"/.exec(body!)?.[1] }),
      );
    // Ready is not yet known: the gateway has both pods when both have answered. Calls at once have a connection each.
    await eventually(
      () => inShell(`for i in 1 2 3 4 5 6 7 8; do ${ask("?delay=300ms", 5)} & done; wait`),
      (all) => all.every(({ status }) => status === "200") && new Set(all.map(({ pod }) => pod)).size === 2,
      60_000,
    );
    const places = await askLab(lab.name, { op: "targets", lab: lab.name, ...target });
    /** The agent of a pod and its Envoy. */
    const proxyOf = (name: string) => {
      const socket = places.find(({ pod }) => pod === name)!.admin!;
      const own = [socket, socket.replace("admin.sock", "run/")];
      return processes().filter(({ command }) => own.some((word) => command.includes(word)));
    };

    // Long enough for all eight programs to have started before the first of them is answered.
    const asked = inShell(`for i in 1 2 3 4 5 6 7 8; do ${ask(`?delay=${askedS}s`)} & done; wait`);
    const active = "http://127.0.0.1:15000/stats?filter=outbound.8000.*echo.bar.global.*upstream_rq_active$";
    await eventually(
      () => lab.exec(...callers, "curl", "-s", "-m", "5", active),
      ({ stdout }) => /rq_active: 8$/m.test(stdout),
      (askedS - 2) * 1_000,
    );
    const file = join(lab.dir, `answered-${Math.random()}`);
    const more = inShell(`until [ -e ${file} ]; do ${ask()}; sleep 0.05; done`);
    // An agent lets calls run on for ten seconds, whichever of the programs was the last to start.
    await new Promise((resolve) => setTimeout(resolve, (askedS - leftS) * 1_000));
    const stoppedAt = Date.now();
    let left: Awaited<ReturnType<typeof pods>> = [];
    let endedMs = 0;
    const load = await underLoad(`${url}/`, async () => {
      await askLab(lab.name, { op: "scale", lab: lab.name, ...target, replicas: 1 });
      left = (await eventually(pods, (all) => all.length === 1, 120_000)).seen;
      endedMs = Date.now() - stoppedAt;
    });
    await lab.exec(...callers, "touch", file);
    const later = await more;
    const answers = await asked;
    const leaving = places.map(({ pod }) => pod).find((pod) => pod !== left[0]!.name)!;
    const news = later.filter(({ at }) => at > stoppedAt + 2_000 && at < stoppedAt + endedMs);
    const told = {
      leaving,
      late: news.filter(({ pod }) => pod === leaving).length,
      endedMs,
      requests: load.requests,
      calls: later.length,
      answers: answers.map(({ pod }) => pod),
    };
    console.log("a pod stopped:", JSON.stringify(told));
    expect(answers).toHaveLength(8);
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => "200"));
    expect(answers.map(({ pod }) => pod)).toContain(leaving);
    // Once everybody has heard of it, nobody connects to it, though it still works on what it was asked before. What comes
    // over a connection that was open is answered, and is the last on it.
    expect(news.length).toBeGreaterThan(2);
    expect(news.map(({ status }) => status)).toEqual(news.map(() => "200"));
    expect(told.late).toBeLessThanOrEqual(answers.length);
    expect(news.at(-1)!.pod).toBe(left[0]!.name);
    expect(load).toMatchObject({ failed: 0, failures: [] });
    expect(proxyOf(leaving)).toEqual([]);
    expect(proxyOf(left[0]!.name)).toHaveLength(2);
    // By itself, before it would be killed.
    expect(endedMs).toBeLessThan(graceS * 1_000);
  }, 400_000);

  test("the root of trust is another, stage by stage, and no call from cluster to cluster fails", async () => {
    const nowMs = Date.now();
    const next = createRoot({ nowMs, organization: "Next", commonName: "Next Root" });
    const after = Object.fromEntries(
      names.map((name) => [name, createIntermediate({ nowMs, issuer: next, cluster: name })]),
    ) as typeof before;
    const old = before.cluster1["root-cert.pem"];
    expect(before.cluster2["root-cert.pem"]).toBe(old);
    const [oldRoot, nextRoot] = [new X509Certificate(old), new X509Certificate(next["ca-cert.pem"])];
    const both = { "root-cert.pem": old + next["root-cert.pem"] };
    const proxies = (await lab.status()).clusters.flatMap(({ name, pods }) =>
      pods
        .filter(({ injected, workload }) => injected || /gateway/.test(workload))
        .map((pod) => [name, pod.name] as const),
    );
    // Two sidecars that are called, one that calls, and the gateways.
    expect(proxies.length).toBeGreaterThanOrEqual(5);
    /** Every Envoy believes exactly these roots, and shows a chain that ends at this one. */
    const arrives = async (roots: readonly X509Certificate[], issuer: X509Certificate) => {
      const expected = { believes: roots.map(({ fingerprint256 }) => fingerprint256), leads: true };
      for (const proxy of proxies)
        await eventually(
          async () => {
            const now = await shown(proxy);
            const believes = now.roots.map(({ fingerprint256 }) => fingerprint256);
            return { proxy, believes, leads: leadsTo(now.chain, issuer) };
          },
          ({ believes, leads }) => isDeepStrictEqual({ believes, leads }, expected),
          90_000,
        );
    };
    // An earlier run of this may have ended in the middle.
    for (const name of names) writeCacerts(caFolder(name), before[name], { replace: true });
    await arrives([oldRoot], oldRoot);
    const url = "http://httpbin.bar.global:8000/headers";
    await eventually(
      () => lab.exec(...callers, "curl", "-s", "-i", "-m", "3", url),
      ({ stdout }) => /^HTTP\/1\.1 200/.test(stdout),
      60_000,
    );

    const load = await underLoad(url, async () => {
      for (const name of names) writeCacerts(caFolder(name), { ...before[name], ...both }, { replace: true });
      await arrives([oldRoot, nextRoot], oldRoot);
      for (const name of names) writeCacerts(caFolder(name), { ...after[name], ...both }, { replace: true });
      await arrives([oldRoot, nextRoot], nextRoot);
      for (const name of names) writeCacerts(caFolder(name), after[name], { replace: true });
      await arrives([nextRoot], nextRoot);
    });
    console.log("under a root's rotation:", JSON.stringify(load));
    expect(load).toMatchObject({ failed: 0, failures: [] });
    expect(load.requests).toBeGreaterThan(100);
    expect(load.seconds, "it called until the end").toBeLessThan(longestS);
    // A connection for each request: what is believed now is what the last of them went by.
    const opened = "http://127.0.0.1:15000/stats?filter=outbound.8000.*httpbin.bar.global.*upstream_(cx|rq)_total$";
    const { stdout } = await lab.exec(...callers, "curl", "-s", opened);
    const count = (what: string) => Number(new RegExp(`${what}_total: (\\d+)`).exec(stdout)?.[1]);
    expect(count("cx"), stdout).toBeGreaterThanOrEqual(load.requests);
    // Control planes as well: what is told from now on arrives.
    const applied = await lab.apply(
      "cluster1",
      remoteService({ host: "late.bar.global", gateway: "127.0.0.1", vip: "240.0.0.99" }),
    );
    expect(applied.code).toBe(0);
    await eventually(
      () => lab.exec(...callers, "curl", "-s", "-m", "5", "http://127.0.0.1:15000/clusters"),
      (ran) => ran.stdout.includes("late.bar.global"),
      60_000,
    );
  }, 480_000);
});

interface Loaded {
  readonly seconds: number;
  readonly requests: number;
  readonly failed: number;
  readonly failures: readonly unknown[];
}
interface SecretDump {
  readonly tls_certificate?: { readonly certificate_chain?: DataSource };
  readonly validation_context?: { readonly trusted_ca?: DataSource };
}
interface DataSource {
  readonly inline_bytes?: string;
  readonly inline_string?: string;
}

function certificatesIn(source: DataSource | undefined): readonly X509Certificate[] {
  const text = source?.inline_string ?? Buffer.from(source?.inline_bytes ?? "", "base64").toString("utf8");
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}

/** Whether each is signed by the next, and the last by this root. */
function leadsTo(chain: readonly X509Certificate[], issuer: X509Certificate): boolean {
  const path = [...chain, issuer];
  return chain.length > 0 && chain.every((one, i) => one.verify(path[i + 1]!.publicKey));
}

/** Each call shakes hands anew, so that no connection of before goes on with what was believed then. */
const connectionForEachRequest = JSON.stringify({
  apiVersion: "networking.istio.io/v1beta1",
  kind: "DestinationRule",
  metadata: { name: "anew", namespace: "foo" },
  spec: {
    host: "httpbin.bar.global",
    trafficPolicy: { connectionPool: { http: { maxRequestsPerConnection: 1 } } },
  },
});

/** How long a call takes that is on its way when its pod is stopped, and how much of that is left then at most. */
const askedS = 18;
const leftS = 7;
/** A pod has this long to end; its Envoy waits for who is still answered, which takes less. */
const graceS = 30;
const labels = { app: "echo" };
const echoTwice = [
  {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "echo", namespace: "bar", labels },
    spec: { selector: labels, ports: [{ name: "http1", port: 8000 }] },
  },
  {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "echo", namespace: "bar" },
    spec: {
      replicas: 2,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          terminationGracePeriodSeconds: graceS,
          containers: [
            {
              name: "echo",
              image: "isthmus/echo",
              ports: [{ containerPort: 8000 }],
              // Longer than the calls that it is asked: an application that cuts them has its callers ask again elsewhere.
              env: [{ name: "DRAIN_SECONDS", value: String(graceS - 10) }],
            },
          ],
        },
      },
    },
  },
]
  .map((object) => JSON.stringify(object))
  .join("\n---\n");
