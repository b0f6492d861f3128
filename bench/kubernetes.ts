import { fork } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { create } from "@bufbuild/protobuf";
import {
  findMachinery,
  kubeconfigText,
  startControlPlane as startKubernetes,
} from "../checks/kubernetes/ground/index.ts";
import { startAdsClient } from "../src/ads/index.ts";
import { Metrics, Scope, silentLogger, systemClock } from "../src/base/index.ts";
import { createIntermediate, createRoot, writeCacerts } from "../src/ca/index.ts";
import { type ControlPlane, startControlPlane } from "../src/control/index.ts";
import { createKubeClient, type KubeAccess, type KubeClient, loadAccess } from "../src/kube/index.ts";
import { defaultMeshSettings } from "../src/model/index.ts";
import { NodeSchema } from "../src/proto/gen/envoy/config/core/v3/base_pb.js";
import { type TypeUrl, typeUrls } from "../src/proto/index.ts";
import { customKinds, customResourceDefinition } from "../src/resources/index.ts";
import { type Ip, parseIp } from "../src/values/index.ts";
import { adopt, freePorts, missing, scratchDir } from "./machine.ts";
import { median, short, table } from "./report.ts";

// From the write of a ServiceEntry to a real Kubernetes API server until the last of the connected proxies has
// acknowledged clusters, listeners and names: through etcd, the watch, the mesh and the push, with the statuses that the
// control plane writes back. Proxies are another process and connect without TLS, as in the benchmark "push".

const services = 1_000;
const proxies = 100;
const rounds = 20;
const told: readonly TypeUrl[] = [typeUrls.cluster, typeUrls.listener, typeUrls.names];
const loopback = parseIp("127.0.0.1") as Ip;

export async function run(print: (line: string) => void): Promise<void> {
  const machinery = findMachinery(process.env);
  if ("missing" in machinery)
    return missing(
      print,
      "kubernetes",
      `there is no ${machinery.missing.join(", ")}; scripts/install-kubernetes.sh builds them`,
    );
  const scope = new Scope();
  const folder = scratchDir();
  const [port, client, peer] = await freePorts(3);
  const place = {
    enter: [],
    listen: "127.0.0.1",
    port: port!,
    advertise: "192.0.2.1",
    etcdPorts: [client!, peer!],
  } as const;
  mkdirSync(join(folder, "kubernetes"));
  const kubernetes = await startKubernetes({
    name: "cluster1",
    machinery,
    folder: join(folder, "kubernetes"),
    place,
    controllers: false,
    scheduler: false,
  });
  scope.defer(() => kubernetes.stop());
  try {
    const kubeconfig = join(folder, "kubeconfig");
    writeFileSync(kubeconfig, kubeconfigText([kubernetes.contextAt(`https://127.0.0.1:${port}`)]), { mode: 0o600 });
    const access = await loadAccess({ kind: "kubeconfig", files: kubeconfig });
    const api = createKubeClient({ access, clock: systemClock, env: {}, userAgent: "isthmus-bench" }, scope);
    await fill(api);
    const plane = await startPlane(access, folder, scope);
    const child = adopt(
      fork(fileURLToPath(import.meta.url), ["proxies", String(plane.ports.plaintext), String(proxies)]),
    );
    scope.defer(() => void child.kill());
    await settled(plane);
    const times: Array<{ written: number; meshed: number; acked: number }> = [];
    for (let round = 0; round < rounds; round++) times.push(await measure(plane, api, round));
    const row = (name: string, of: (one: (typeof times)[number]) => number) => {
      const all = times.map(of);
      return [name, short(median(all)), short(Math.max(...all))];
    };
    print(
      `${services} Services, ${proxies} proxies; ${rounds} ServiceEntries, one after the other; ms since the write was sent`,
    );
    table(print, [
      ["", "median", "longest"],
      row("the API server has answered", ({ written }) => written),
      row("the mesh has it", ({ meshed }) => meshed),
      row("the last proxy's last ACK", ({ acked }) => acked),
    ]);
  } finally {
    await scope.close();
  }
}

/** Definitions, namespaces and services, a few at a time. */
async function fill(api: KubeClient): Promise<void> {
  const post = (path: string, body: object) => api.json({ method: "POST", path, body });
  for (const kind of customKinds)
    await post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", customResourceDefinition(kind));
  await post("/api/v1/namespaces", { metadata: { name: "isthmus-system" } });
  await post("/api/v1/namespaces", { metadata: { name: "shop" } });
  let next = 0;
  const some = async () => {
    for (let at = next++; at < services; at = next++) {
      const name = `service-${at}`;
      const ports = [{ name: "http", port: 8000 }];
      await post("/api/v1/namespaces/shop/services", { metadata: { name }, spec: { ports } });
      await post("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", {
        metadata: { name: `${name}-1`, labels: { "kubernetes.io/service-name": name } },
        addressType: "IPv4",
        ports,
        endpoints: [{ addresses: [`10.1.${at >> 8}.${at & 255}`], conditions: { ready: true } }],
      });
    }
  };
  await Promise.all(Array.from({ length: 8 }, some));
}

async function startPlane(access: KubeAccess, folder: string, scope: Scope): Promise<ControlPlane> {
  const nowMs = systemClock.now();
  const cacertsDir = join(folder, "cacerts");
  writeCacerts(cacertsDir, createIntermediate({ nowMs, issuer: createRoot({ nowMs }), cluster: "cluster1" }));
  const free = { ip: loopback, port: 0 };
  return await startControlPlane(
    {
      mesh: { ...defaultMeshSettings, cluster: "cluster1" },
      configDirs: [],
      kubernetes: {
        access,
        env: {},
        revision: "default",
        me: "bench",
        secretNamespaces: ["isthmus-system"],
        writes: true,
      },
      cacertsDir,
      demo: false,
      secure: free,
      plaintext: free,
      tokenKeysFile: undefined,
      dns: undefined,
      admin: { host: loopback, port: 0 },
      health: undefined,
      webhooks: undefined,
      workloadCertTtlMs: undefined,
      addresses: [loopback],
    },
    { clock: systemClock, random: Math.random, log: silentLogger, metrics: new Metrics() },
    scope,
  );
}

const pause = (ms: number) => new Promise<void>((resolve) => systemClock.after(ms, resolve));

async function settled({ ads }: ControlPlane): Promise<void> {
  for (;;) {
    const all = ads.connections();
    if (all.length === proxies && all.every((one) => one.settled)) return;
    await pause(50);
  }
}

async function measure(plane: ControlPlane, api: KubeClient, round: number) {
  const host = `remote-${round}.shop.global`;
  const began = systemClock.monotonic();
  const since = () => systemClock.monotonic() - began;
  let meshed = Number.NaN;
  const stopMesh = plane.mesh.subscribe(({ services: all }) => {
    if (Number.isNaN(meshed) && all.has(host as never)) meshed = since();
  });
  const wallMs = systemClock.now();
  const acked = new Promise<number>((resolve) => {
    const missingAcks = new Set<string>();
    let seen = 0;
    const stop = plane.ads.receipts.subscribe(({ proxy, typeUrl, sent, acked: answered }) => {
      if (!told.includes(typeUrl as TypeUrl) || sent.atMs < wallMs || answered?.nonce !== sent.nonce) return;
      const key = `${proxy} ${typeUrl}`;
      if (missingAcks.has(key)) return;
      missingAcks.add(key);
      if (++seen < proxies * told.length) return;
      stop();
      resolve(since());
    });
  });
  await api.json({
    method: "POST",
    path: "/apis/networking.istio.io/v1/namespaces/shop/serviceentries",
    body: {
      apiVersion: "networking.istio.io/v1",
      kind: "ServiceEntry",
      metadata: { name: `remote-${round}` },
      spec: {
        hosts: [host],
        location: "MESH_INTERNAL",
        resolution: "STATIC",
        ports: [{ name: "tcp1", number: 9_000 + round, protocol: "TCP" }],
        endpoints: [{ address: "192.0.2.10", ports: { tcp1: 15443 } }],
      },
    },
  });
  const written = since();
  const all = { written, acked: await acked, meshed };
  stopMesh();
  // What was written back into its status is over before the next one.
  await pause(1_500);
  await settled(plane);
  return { ...all, meshed };
}

function startProxies(port: number, count: number): void {
  const everything = { all: true, names: new Set<string>() };
  for (let at = 0; at < count; at++) {
    startAdsClient(
      {
        target: `127.0.0.1:${port}`,
        security: { kind: "plaintext" },
        node: () =>
          create(NodeSchema, {
            id: `sidecar~10.2.0.${at}~p${at}.shop~shop.svc.cluster.local`,
            metadata: { NAMESPACE: "shop", CLUSTER_ID: "cluster1" },
          }),
        interests: new Map(told.map((type) => [type, everything])),
        apply: () => [],
        clock: systemClock,
        random: Math.random,
        log: silentLogger,
      },
      new Scope(),
    );
  }
}

const [, , role, port, count] = process.argv;
if (role === "proxies") startProxies(Number(port), Number(count));
