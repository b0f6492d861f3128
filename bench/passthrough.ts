import { writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../src/base/index.ts";
import { typeUrls } from "../src/proto/index.ts";
import { ConfigStore, type Secrets, startProxy } from "../src/proxy/index.ts";
import { inspectors, listener, staticCluster, tcpProxy } from "../src/proxy/testdata/resources.ts";
import type { Ip } from "../src/values/index.ts";
import {
  asLoad,
  eventually,
  freePorts,
  missing,
  needProgram,
  newestNode,
  type Program,
  placement,
  scratchDir,
  startProgram,
} from "./machine.ts";
import { interleave, median, megabytes, short, table } from "./report.ts";

/*
 * TLS passed on by its server name, unopened: the embedded proxy and HAProxy in TCP mode with req.ssl_sni, one worker
 * each, in front of one server that answers the ClientHello with bytes. No handshake is made: only the passing on counts.
 * Rounds are interleaved, so that a busy machine is busy for both.
 */

const seconds = Number(process.env["BENCH_SECONDS"] ?? 2);
const rounds = 3;
const parallel = 16;
const bulkBytes = 256 * 1024 * 1024;
const name = "outbound_.8000_._.httpbin.bar.global";

interface Subject {
  readonly what: string;
  readonly port: number;
  readonly program: Program;
}

export async function run(print: (line: string) => void): Promise<void> {
  const haproxy = needProgram("haproxy", { print });
  if (!haproxy) missing(print, "HAProxy", "it is not installed");
  const newest = newestNode();
  const dir = scratchDir();
  const running: Program[] = [];
  const started = (place: "measured" | "load", ...argv: string[]) => {
    const program = startProgram(place, argv, { stdio: ["pipe", "ignore", "pipe"] });
    running.push(program);
    return program;
  };
  const self = fileURLToPath(import.meta.url);
  const release = asLoad();
  try {
    const [back, ours, oursNewest, theirs] = await freePorts(4);
    started("load", process.execPath, self, "back", String(back));
    const proxy = (node: string, port: number) => started("measured", node, self, "proxy", String(port), String(back));
    const subjects: Subject[] = [{ what: "isthmus", port: ours, program: proxy(process.execPath, ours) }];
    if (newest) {
      const program = proxy(newest.program, oursNewest);
      subjects.push({ what: `isthmus, Node ${newest.version}`, port: oursNewest, program });
    }
    if (haproxy) {
      writeFileSync(
        join(dir, "haproxy.cfg"),
        `global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend sni
  bind 127.0.0.1:${theirs}
  tcp-request inspect-delay 5s
  tcp-request content accept if { req_ssl_hello_type 1 }
  use_backend app if { req.ssl_sni -i ${name} }
backend app
  server one 127.0.0.1:${back}
`,
      );
      const program = started("measured", haproxy, "-db", "-f", join(dir, "haproxy.cfg"));
      subjects.push({ what: "HAProxy", port: theirs, program });
    }
    for (const { what, port } of subjects) await eventually(`${what} does not answer`, () => once(port));
    for (const { port } of subjects) {
      // Until compilers have seen enough of it, or for some seconds at most.
      for (let half = 0, done = 0; half < 12 && done < 5_000; half++) done += await shortConnections(port, 500);
    }
    print(`TLS passed on by its server name; ${placement()}`);
    const results = await interleave(subjects, rounds, ({ port, program }) => measure(port, program));
    const all = subjects.map((subject) => {
      const list = results.get(subject)!;
      const middle = (of: (one: (typeof list)[number]) => number) => median(list.map(of));
      return {
        what: subject.what,
        perSecond: middle((one) => one.perSecond),
        cpuEach: middle((one) => one.cpuEach),
        busy: middle((one) => one.busy),
        mbPerSecond: middle((one) => one.mbPerSecond),
        cpuPerMb: middle((one) => one.cpuPerMb),
        memory: megabytes(subject.program.rssBytes()),
      };
    });
    table(print, [
      ["", "connections/s", "CPU-µs/connection", "busy", "MB/s", "CPU-µs/MB", "memory MB"],
      ...all.map(({ what, perSecond, cpuEach, busy, mbPerSecond, cpuPerMb, memory }) => [
        what,
        perSecond.toFixed(0),
        short(cpuEach),
        `${(busy * 100).toFixed(0)} %`,
        mbPerSecond.toFixed(0),
        short(cpuPerMb),
        memory,
      ]),
    ]);
    print('"busy" is the share of its core: where it is below 100 %, the load was all that could be made');
    const [own, other] = [all[0]!, all.find(({ what }) => what === "HAProxy")];
    if (other)
      print(
        `isthmus / HAProxy: CPU per connection ${short(own.cpuEach / other.cpuEach)}, CPU per byte ${short(own.cpuPerMb / other.cpuPerMb)}, connections/s ${short(own.perSecond / other.perSecond)}, bytes/s ${short(own.mbPerSecond / other.mbPerSecond)}`,
      );
  } finally {
    release();
    await Promise.all(running.map((program) => program.stop()));
  }
}

async function measure(port: number, program: Program) {
  const cpu = program.cpuMicros();
  const begun = performance.now();
  const connections = await shortConnections(port, seconds * 1000);
  const tookMs = performance.now() - begun;
  const spent = program.cpuMicros() - cpu;
  const bulkCpu = program.cpuMicros();
  const bulkBegun = performance.now();
  await bulk(port);
  const bulkMs = performance.now() - bulkBegun;
  return {
    perSecond: (connections / tookMs) * 1000,
    cpuEach: spent / connections,
    busy: spent / 1000 / tookMs,
    mbPerSecond: bulkBytes / 1e3 / bulkMs,
    cpuPerMb: (program.cpuMicros() - bulkCpu) / (bulkBytes / 1e6),
  };
}

/** A ClientHello with one server name, as a TLS 1.3 client might send it, padded to the usual size. */
function clientHello(): Buffer {
  const u16 = (value: number) => Buffer.from([value >> 8, value & 255]);
  const sized = (bytes: Buffer) => Buffer.concat([u16(bytes.length), bytes]);
  const serverName = Buffer.concat([u16(0), sized(sized(Buffer.concat([Buffer.from([0]), sized(Buffer.from(name))])))]);
  const versions = Buffer.concat([u16(43), sized(Buffer.from([2, 3, 4]))]);
  const padding = Buffer.concat([u16(21), sized(Buffer.alloc(200))]);
  const extensions = sized(Buffer.concat([serverName, versions, padding]));
  const body = Buffer.concat([u16(0x0303), Buffer.alloc(33), sized(u16(0x1301)), Buffer.from([1, 0]), extensions]);
  return Buffer.concat([Buffer.from([22, 3, 1]), sized(Buffer.concat([Buffer.from([1, 0]), u16(body.length), body]))]);
}

const hello = clientHello();
const answerBytes = 1000;

/** Connections one after the other on each of several lanes: hello, answer, end. */
async function shortConnections(port: number, forMs: number): Promise<number> {
  const until = performance.now() + forMs;
  let done = 0;
  await Promise.all(
    Array.from({ length: parallel }, async () => {
      while (performance.now() < until) {
        await once(port);
        done++;
      }
    }),
  );
  return done;
}

function once(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, noDelay: true });
    let got = 0;
    socket.on("data", (chunk: Buffer) => {
      got += chunk.length;
      if (got >= answerBytes) socket.end();
    });
    socket.once("error", reject);
    socket.once("close", () => resolve());
    socket.write(hello);
  });
}

/** One connection that receives much. A first byte of 23 after the hello asks for it. */
function bulk(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let got = 0;
    const buffer = Buffer.allocUnsafe(256 * 1024);
    const socket = connect({
      host: "127.0.0.1",
      port,
      onread: {
        buffer,
        callback: (count) => {
          got += count;
          if (got >= bulkBytes) socket.destroy();
          return true;
        },
      },
    });
    socket.once("error", reject);
    socket.once("close", () => resolve());
    socket.write(Buffer.concat([hello, Buffer.from([23])]));
  });
}

function answer(socket: Socket): void {
  const block = Buffer.alloc(256 * 1024);
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    if (chunk[chunk.length - 1] !== 23) {
      socket.write(block.subarray(0, answerBytes));
      return;
    }
    let left = bulkBytes;
    const pour = () => {
      while (left > 0 && !socket.destroyed) {
        left -= block.length;
        if (!socket.write(block)) return;
      }
    };
    socket.on("drain", pour);
    pour();
  });
}

async function child(kind: string, ports: readonly number[]): Promise<void> {
  process.stdin.resume().on("end", () => process.exit(0));
  const [own, back] = ports as [number, number];
  if (kind === "back") {
    createServer({ noDelay: true }, answer).listen(own, "127.0.0.1");
    return;
  }
  const store = new ConfigStore({ clock: systemClock, log: silentLogger });
  store.apply(typeUrls.cluster, [staticCluster("app", [{ ip: "127.0.0.1" as Ip, port: back }])], []);
  const given = listener("sni", {
    address: {
      address: {
        case: "socketAddress",
        value: { address: "127.0.0.1", portSpecifier: { case: "portValue", value: own } },
      },
    },
    listenerFilters: inspectors("tls_inspector"),
    filterChains: [{ filterChainMatch: { serverNames: [name] }, filters: [tcpProxy("app")] }],
  });
  const refused = store.apply(typeUrls.listener, [given], []);
  if (refused.length > 0) throw new Error(refused[0]!.message);
  await startProxy(
    {
      clock: systemClock,
      random: Math.random,
      log: silentLogger,
      metrics: new Metrics(),
      store,
      secrets: new Cell<Secrets>(new Map()),
      resolve: () => Promise.reject(new Error("no names here")),
    },
    new Scope(),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv[2])
  await child(process.argv[2], process.argv.slice(3).map(Number));
