import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../src/base/index.ts";
import { typeUrls } from "../src/proto/index.ts";
import { ConfigStore, type Secrets, startProxy } from "../src/proxy/index.ts";
import { inspectors, listener, staticCluster, tcpProxy } from "../src/proxy/testdata/resources.ts";
import type { Ip } from "../src/values/index.ts";

/*
 * TLS passed on by its server name, unopened: the embedded proxy and HAProxy in TCP mode with req.ssl_sni, one worker
 * each, in front of one server that answers the ClientHello with bytes. No handshake is made: only the passing on counts.
 * Rounds are interleaved, so that a busy machine is busy for both.
 */

const seconds = Number(process.env["BENCH_SECONDS"] ?? 1);
const rounds = 3;
const parallel = 16;
const bulkBytes = 256 * 1024 * 1024;
const ticksPerSecond = 100;
const name = "outbound_.8000_._.httpbin.bar.global";

export async function run(print: (line: string) => void): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "isthmus-bench-"));
  const children: ChildProcess[] = [];
  try {
    const [back, ours, theirs] = [await freePort(), await freePort(), await freePort()] as const;
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
    const child = (...args: string[]) => {
      const made = spawn(process.execPath, [fileURLToPath(import.meta.url), ...args], {
        stdio: ["pipe", "inherit", "inherit"],
      });
      children.push(made);
      return made;
    };
    child("back", String(back));
    const isthmus = child("proxy", String(ours), String(back));
    const haproxy = spawn("haproxy", ["-db", "-q", "-f", join(dir, "haproxy.cfg")], { stdio: "inherit" });
    children.push(haproxy);
    for (const port of [back, ours, theirs]) await reachable(port);
    const peers = [
      { what: "isthmus", port: ours, pid: isthmus.pid!, connections: 0, time: 0, cpu: 0, bulkTime: 0, bulkCpu: 0 },
      { what: "haproxy", port: theirs, pid: haproxy.pid!, connections: 0, time: 0, cpu: 0, bulkTime: 0, bulkCpu: 0 },
    ];
    for (const peer of peers) await shortConnections(peer.port, 300);
    for (let round = 0; round < rounds; round++)
      for (const peer of peers) {
        let before = cpuSeconds(peer.pid);
        const begun = performance.now();
        peer.connections += await shortConnections(peer.port, seconds * 1000);
        peer.time += performance.now() - begun;
        peer.cpu += cpuSeconds(peer.pid) - before;
        before = cpuSeconds(peer.pid);
        const bulkBegun = performance.now();
        await bulk(peer.port);
        peer.bulkTime += performance.now() - bulkBegun;
        peer.bulkCpu += cpuSeconds(peer.pid) - before;
      }
    for (const peer of peers) {
      const perSecond = peer.connections / (peer.time / 1000);
      const megabytes = (rounds * bulkBytes) / 1e6;
      print(
        `${peer.what.padEnd(8)} ${perSecond.toFixed(0).padStart(6)} connections/s  ${((peer.cpu * 1e6) / peer.connections).toFixed(0).padStart(4)} µs CPU each   ${(megabytes / (peer.bulkTime / 1000)).toFixed(0).padStart(6)} MB/s  ${((peer.bulkCpu * 1e6) / megabytes).toFixed(0).padStart(4)} µs CPU per MB`,
      );
    }
    const [a, b] = peers as [(typeof peers)[0], (typeof peers)[0]];
    print(
      `isthmus / haproxy: CPU per connection ${(a.cpu / a.connections / (b.cpu / b.connections)).toFixed(2)}, CPU per byte ${(a.bulkCpu / b.bulkCpu).toFixed(2)}, connections/s ${(a.connections / a.time / (b.connections / b.time)).toFixed(2)}, bytes/s ${(b.bulkTime / a.bulkTime).toFixed(2)}`,
    );
  } finally {
    for (const each of children) each.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  }
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

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

async function reachable(port: number): Promise<void> {
  for (let i = 0; i < 100; i++) {
    const ok = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => {
        socket.destroy();
        resolve(true);
      }).once("error", () => resolve(false));
    });
    if (ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`nothing listens on port ${port}`);
}

/** User and system time of a process in seconds. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv[2])
  await child(process.argv[2], process.argv.slice(3).map(Number));
