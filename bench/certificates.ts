import { spawnSync } from "node:child_process";
import { generateKeyPairSync, sign, verify } from "node:crypto";
import { Cell, systemClock } from "../src/base/index.ts";
import { Authority, checkCacerts, createIntermediate, createRoot, encodeCsr, makeKeyPair } from "../src/ca/index.ts";
import { parseSpiffeId } from "../src/values/index.ts";
import { missing } from "./machine.ts";

/** One line of the result: what was done, how often in a second, and at what cost. */
export interface CertificateRate {
  readonly what: string;
  readonly perSecond: number;
  readonly cpuMicros: number;
}

/**
 * Certificates a second (request read, its signature checked, certificate signed, all on one thread) beside raw P-256
 * signing by `node:crypto` and by `openssl speed`, which is what a certificate cannot cost less than. The rounds of our own
 * are interleaved, so that a busy machine is busy for each.
 */
export function benchCertificates(
  options: { readonly seconds?: number; readonly rounds?: number } = {},
): readonly CertificateRate[] {
  const { seconds = 1, rounds = 3 } = options;
  const nowMs = systemClock.now();
  const checked = checkCacerts(createIntermediate({ nowMs, issuer: createRoot({ nowMs }), cluster: "bench" }), {
    nowMs,
    demo: "refused",
  });
  if (!checked.ok) throw new Error("BUG: CA files made for the benchmark are unfit");
  const authority = new Authority({
    cacerts: new Cell(checked.cacerts),
    clock: systemClock,
    settings: { trustDomain: "cluster.local" },
  });
  const identity = parseSpiffeId("spiffe://cluster.local/ns/bench/sa/bench")!;
  const requests = Array.from({ length: 64 }, () => encodeCsr(makeKeyPair("ec-p256").privateKey));
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const text = Buffer.alloc(400, 7);
  const signature = sign("sha256", text, privateKey);
  const work: ReadonlyArray<readonly [string, (i: number) => unknown]> = [
    ["certificate from request", (i) => authority.sign(requests[i % requests.length]!, identity)],
    ["request made, key and all", () => encodeCsr(makeKeyPair("ec-p256").privateKey)],
    ["node:crypto P-256 verification", () => verify("sha256", text, publicKey, signature)],
    ["node:crypto P-256 signature", () => sign("sha256", text, privateKey)],
  ];
  const spent = work.map(() => ({ times: 0, seconds: 0, cpuMicros: 0 }));
  for (const [, run] of work) for (let i = 0; i < 200; i++) run(i);
  for (let round = 0; round < rounds; round++) {
    for (const [index, [, run]] of work.entries()) {
      const total = spent[index]!;
      const cpu = process.cpuUsage();
      const start = performance.now();
      let times = 0;
      while (performance.now() - start < (seconds * 1000) / rounds) for (let i = 0; i < 20; i++) run(times++);
      const used = process.cpuUsage(cpu);
      total.times += times;
      total.seconds += (performance.now() - start) / 1000;
      total.cpuMicros += used.user + used.system;
    }
  }
  const ours = work.map(([what], index) => {
    const total = spent[index]!;
    return { what, perSecond: total.times / total.seconds, cpuMicros: total.cpuMicros / total.times };
  });
  const raw = opensslSpeed(seconds);
  return raw === undefined ? ours : [...ours, raw];
}

/** Signatures by `openssl speed`; undefined where there is no openssl. */
function opensslSpeed(seconds: number): CertificateRate | undefined {
  const args = ["speed", "-seconds", String(Math.max(1, Math.round(seconds))), "-mr", "ecdsap256"];
  const { stdout } = spawnSync("openssl", args, { encoding: "utf8", timeout: 60_000 });
  // +F4:<index>:<bits>:<signatures a second>:<verifications a second>, of CPU time.
  const perSecond = Number(/^\+F\d+:\d+:256:([\d.]+):/m.exec(stdout ?? "")?.[1]);
  if (!(perSecond > 1)) return undefined;
  return { what: "openssl speed P-256 signature", perSecond, cpuMicros: 1e6 / perSecond };
}

export function printCertificates(rates: readonly CertificateRate[]): string {
  const ours = rates[0]!;
  return rates
    .map(({ what, perSecond, cpuMicros }) => {
      const ratio = (ours.cpuMicros / cpuMicros).toFixed(2);
      return `${what.padEnd(32)} ${perSecond.toFixed(0).padStart(8)}/s ${cpuMicros.toFixed(1).padStart(8)} µs CPU   a certificate costs ${ratio} of it`;
    })
    .join("\n");
}

export async function run(print: (line: string) => void): Promise<void> {
  const rates = benchCertificates({ seconds: 2 });
  if (!rates.some(({ what }) => what.startsWith("openssl"))) missing(print, "openssl speed", "there is no openssl");
  print(printCertificates(rates));
}
