import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { create } from "@bufbuild/protobuf";
import { createAdsServer, startAdsClient, startGrpcServer } from "../src/ads/index.ts";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../src/base/index.ts";
import { NodeSchema } from "../src/proto/gen/envoy/config/core/v3/base_pb.js";
import { type Snapshot, typeUrls, type Versioned } from "../src/proto/index.ts";
import { adopt } from "./machine.ts";

// One change to N connected proxies that run 1,000 clusters each: how long until the last has acknowledged it, how many
// bytes crossed, and how much CPU the server spent on it. The proxies are another process, so that their CPU is not
// counted; plaintext over loopback, so that it is the push that is measured and not the encryption.

const clusters = 1_000;
const clusterBytes = 828;
const rounds = 20;

function snapshotOf(changed: number): Snapshot {
  return new Map([
    [typeUrls.cluster, new Map(base.map((one, i) => [one.name, i === 0 ? versioned(0, `v${changed}`) : one]))],
  ]);
}

function versioned(i: number, version: string): Versioned {
  return {
    name: `outbound|8000||service-${i}.ns.global`,
    version,
    bytes: Buffer.from(version.padEnd(clusterBytes)),
    origins: [],
  };
}

const base = Array.from({ length: clusters }, (_, i) => versioned(i, "v"));

async function measure(proxies: number, print: (line: string) => void): Promise<void> {
  const scope = new Scope();
  const snapshot = new Cell(snapshotOf(0));
  const ads = createAdsServer(
    {
      authenticate: () => ({ ok: true }),
      watch: () => snapshot,
      clock: systemClock,
      log: silentLogger,
      metrics: new Metrics(),
    },
    scope,
  );
  const { port } = await startGrpcServer(
    {
      listen: { ip: "127.0.0.1", port: 0 },
      security: { kind: "plaintext" },
      services: [ads.serve({ requireCertificate: false })],
      log: silentLogger,
    },
    scope,
  );
  const everyone = (act: () => void): Promise<number> =>
    new Promise((resolve) => {
      let bytes = 0;
      const acked = new Set<string>();
      const stop = ads.receipts.subscribe((receipt) => {
        if (receipt.acked?.nonce !== receipt.sent.nonce || acked.has(receipt.proxy)) return;
        acked.add(receipt.proxy);
        bytes += receipt.sent.bytes;
        if (acked.size < proxies) return;
        stop();
        resolve(bytes);
      });
      act();
    });
  const timed = async (act: () => void) => {
    const cpu = process.cpuUsage();
    const began = systemClock.monotonic();
    const bytes = await everyone(act);
    const spent = process.cpuUsage(cpu);
    return { ms: systemClock.monotonic() - began, bytes, cpuMs: (spent.user + spent.system) / 1_000 };
  };
  let child: ReturnType<typeof fork> | undefined;
  const whole = await timed(() => {
    child = adopt(fork(fileURLToPath(import.meta.url), ["proxies", String(port), String(proxies)]));
  });
  const changes: Awaited<ReturnType<typeof timed>>[] = [];
  for (let round = 1; round <= rounds; round++) changes.push(await timed(() => snapshot.set(snapshotOf(round))));
  const median = (of: (one: (typeof changes)[number]) => number) => changes.map(of).sort((a, b) => a - b)[rounds >> 1]!;
  print(
    [
      `${String(proxies).padStart(3)} proxies`,
      `all of ${clusters} clusters: ${(whole.bytes / proxies / 1e3).toFixed(0)} kB and ${(whole.cpuMs / proxies).toFixed(2)} ms CPU each`,
      `one change: last ACK after ${median(({ ms }) => ms).toFixed(2)} ms (median of ${rounds}),` +
        ` ${median(({ bytes }) => bytes / proxies).toFixed(0)} B and ${median(({ cpuMs }) => cpuMs / proxies).toFixed(3)} ms CPU each`,
    ].join(" · "),
  );
  child?.kill();
  await scope.close();
}

/** Prints a line for each number of proxies. Takes a few seconds. */
export async function run(print: (line: string) => void): Promise<void> {
  for (const proxies of [1, 10, 50]) await measure(proxies, print);
}

function startProxies(port: number, proxies: number): void {
  for (let i = 0; i < proxies; i++) {
    startAdsClient(
      {
        target: `127.0.0.1:${port}`,
        security: { kind: "plaintext" },
        node: () => create(NodeSchema, { id: `sidecar~10.0.0.${i}~p${i}.ns~ns.svc.cluster.local` }),
        interests: new Map([[typeUrls.cluster, { all: true, names: new Set<string>() }]]),
        apply: () => [],
        clock: systemClock,
        random: Math.random,
        log: silentLogger,
      },
      new Scope(),
    );
  }
}

const [, , role, port, proxies] = process.argv;
if (role === "proxies") startProxies(Number(port), Number(proxies));
