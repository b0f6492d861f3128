import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { everythingTo, startRig, TestUpstream } from "../src/proxy/l7/testing/rig.ts";

/*
 * Small requests through the embedded HTTP/1.1 proxy and through nginx doing the same, one worker each, before one nginx
 * that answers. The rounds are interleaved, so that a busy machine is busy for both.
 */

const seconds = Number(process.env["BENCH_SECONDS"] ?? 2);
const rounds = 3;
const connections = 32;
const ticksPerSecond = 100;

export async function run(print: (line: string) => void): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "isthmus-bench-"));
  const children: ChildProcess[] = [];
  try {
    const [back, front, ours, bare] = [await freePort(), await freePort(), await freePort(), await freePort()] as const;
    children.push(
      nginx(
        dir,
        "back",
        `server { listen 127.0.0.1:${back} reuseport; keepalive_requests 1000000000; location / { return 200 "hello, small answer\\n"; } }`,
      ),
    );
    children.push(
      nginx(
        dir,
        "front",
        `upstream app { server 127.0.0.1:${back}; keepalive 256; keepalive_requests 1000000000; }
         server { listen 127.0.0.1:${front} reuseport; keepalive_requests 1000000000;
           location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Request-Id $request_id; } }`,
      ),
    );
    const profile = process.env["BENCH_PROFILE"]
      ? ["--cpu-prof", `--cpu-prof-dir=${process.env["BENCH_PROFILE"]}`]
      : [];
    children.push(
      spawn(process.execPath, [...profile, fileURLToPath(import.meta.url), "child", String(ours), String(back)], {
        stdio: ["pipe", "inherit", "inherit"],
      }),
    );
    children.push(
      spawn(process.execPath, [fileURLToPath(import.meta.url), "bare", String(bare), String(back)], {
        stdio: ["pipe", "inherit", "inherit"],
      }),
    );
    for (const port of [back, front, ours, bare]) await reachable(port);
    const peers = [
      { what: "isthmus", port: ours, pid: children[2]!.pid!, cpu: 0, requests: 0, time: 0, p99: [] as string[] },
      { what: "nginx", port: front, pid: children[1]!.pid!, cpu: 0, requests: 0, time: 0, p99: [] as string[] },
      // Bytes passed on unread, a connection for each: what the runtime and the kernel take, whatever a proxy does.
      { what: "bare", port: bare, pid: children[3]!.pid!, cpu: 0, requests: 0, time: 0, p99: [] as string[] },
    ];
    for (const peer of peers) await wrk(peer.port, 1);
    for (let round = 0; round < rounds; round++) {
      for (const peer of peers) {
        const before = cpuSeconds(peer.pid);
        const got = await wrk(peer.port, seconds);
        peer.cpu += cpuSeconds(peer.pid) - before;
        peer.requests += got.requests;
        peer.time += seconds;
        peer.p99.push(got.p99);
      }
    }
    const micros = (peer: (typeof peers)[number]) => (peer.cpu * 1e6) / peer.requests;
    for (const peer of peers) {
      const rate = Math.round(peer.requests / peer.time);
      print(
        `${peer.what.padEnd(8)} ${String(rate).padStart(7)} requests/s  ${micros(peer).toFixed(1).padStart(6)} µs CPU a request  p99 ${peer.p99.join(" ")}`,
      );
    }
    print(
      `isthmus takes ${(micros(peers[0]!) / micros(peers[2]!)).toFixed(2)} times the CPU of passing bytes on in Node`,
    );
    print(`isthmus takes ${(micros(peers[0]!) / micros(peers[1]!)).toFixed(2)} times the CPU of nginx`);
  } finally {
    for (const child of children) child.kill("SIGTERM");
    await Promise.all(
      children.map((child) => (child.exitCode !== null ? undefined : new Promise((done) => child.once("exit", done)))),
    );
    rmSync(dir, { recursive: true, force: true });
  }
}

function nginx(dir: string, name: string, server: string): ChildProcess {
  mkdirSync(join(dir, name));
  const file = join(dir, name, "nginx.conf");
  writeFileSync(
    file,
    `daemon off; master_process off; worker_processes 1; pid ${join(dir, name, "pid")}; error_log stderr crit;
     events { worker_connections 4096; } http { access_log off; client_body_temp_path ${dir}; proxy_temp_path ${dir};
     fastcgi_temp_path ${dir}; uwsgi_temp_path ${dir}; scgi_temp_path ${dir}; ${server} }`,
  );
  return spawn("nginx", ["-p", dir, "-c", file], { stdio: ["ignore", "ignore", "inherit"] });
}

/** User and system time of a process so far. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

function wrk(port: number, duration: number): Promise<{ requests: number; p99: string }> {
  return new Promise((resolve, reject) => {
    const args = ["-t1", `-c${connections}`, `-d${duration}s`, "--latency", `http://127.0.0.1:${port}/headers`];
    execFile("wrk", args, (error, stdout) => {
      if (error) return reject(error);
      if (/Non-2xx|Socket errors/.test(stdout)) return reject(new Error(`wrk met errors: ${stdout}`));
      resolve({ requests: Number(/(\d+) requests in/.exec(stdout)?.[1]), p99: /99%\s+(\S+)/.exec(stdout)?.[1] ?? "?" });
    });
  });
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
  for (let tries = 0; tries < 50; tries++) {
    try {
      await fetch(`http://127.0.0.1:${port}/`);
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  throw new Error(`nothing listens on port ${port}`);
}

if (process.argv[2] === "child") {
  const rig = await startRig({
    port: Number(process.argv[3]),
    table: everythingTo("app"),
    clusters: [new TestUpstream("app", [Number(process.argv[4])])],
    service: { accessLog: undefined },
  });
  process.once("SIGTERM", () => void rig.close().then(() => process.exit(0)));
}

if (process.argv[2] === "bare") {
  createServer({ noDelay: true }, (client) => {
    const server = connect({ host: "127.0.0.1", port: Number(process.argv[4]), noDelay: true });
    client.on("data", (chunk) => server.write(chunk));
    server.on("data", (chunk) => client.write(chunk));
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
  }).listen(Number(process.argv[3]), "127.0.0.1");
}
