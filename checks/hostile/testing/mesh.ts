import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TestRoot } from "../../../src/proxy/testdata/certificates.ts";
import { addresses, meshYaml, type Ports, proxiesOf } from "./sample.ts";
import { transpiled } from "./transpile.mjs";
import type { Memory, Orders, Question, Told } from "./victim.ts";

/** Ports that were free a moment ago, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<Server>((resolve, reject) => {
          const server = createServer();
          server.once("error", reject).listen(0, "127.0.0.1", () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** A server of the test's: what it saw, whatever it was. */
export interface App {
  readonly port: number;
  /** Everything that came, per connection in the order of their coming. */
  readonly seen: string[];
  readonly connections: () => number;
  readonly open: Set<Socket>;
  forget(): void;
  close(): Promise<void>;
}

export async function startApp(port: number, serve: (socket: Socket, told: () => string) => void): Promise<App> {
  const seen: string[] = [];
  const open = new Set<Socket>();
  let accepted = 0;
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    accepted++;
    open.add(socket);
    let index = seen.push("") - 1;
    const mine = seen;
    socket.on("data", (chunk: Buffer) => {
      // After `forget` a kept connection starts a page of its own.
      if (mine.length <= index) index = mine.push("") - 1;
      // What is looked at stands in front; bodies of megabytes are not kept.
      if (mine[index]!.length < 1024 * 1024) mine[index] += chunk.toString("latin1");
    });
    socket.on("error", () => {});
    socket.once("close", () => open.delete(socket));
    serve(socket, () => mine[index] ?? "");
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(port, "127.0.0.1", resolve);
  });
  return {
    port: (server.address() as { port: number }).port,
    seen,
    open,
    connections: () => accepted,
    forget: () => {
      seen.length = 0;
    },
    close: () => {
      for (const socket of open) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/**
 * Reads HTTP/1 as a careless server would and answers each request that it believes to see with what it saw of it:
 * method, target and fields as lines. `/big` answers with 8 MB, `/slow` after two seconds, `/cut` breaks off.
 */
export function carelessHttp(socket: Socket): void {
  let text = "";
  let body = 0;
  let chunked = false;
  const next = () => {
    for (;;) {
      if (body > 0) {
        const take = Math.min(body, text.length);
        text = text.slice(take);
        body -= take;
        if (body > 0) return;
      }
      if (chunked) {
        const end = text.indexOf("0\r\n\r\n");
        if (end < 0) return;
        text = text.slice(end + 5);
        chunked = false;
      }
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      const head = text.slice(0, end);
      text = text.slice(end + 4);
      body = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
      chunked = /^transfer-encoding:.*chunked/im.test(head);
      answer(socket, head);
    }
  };
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    next();
  });
  socket.on("end", () => socket.end());
}

const big = Buffer.alloc(8 * 1024 * 1024, "x");

function answer(socket: Socket, head: string): void {
  const path = head.split(" ")[1] ?? "";
  if (path.startsWith("/big")) {
    socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${big.length}\r\n\r\n`);
    socket.write(big);
  } else if (path.startsWith("/cut")) {
    socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nhello");
    setTimeout(() => socket.resetAndDestroy(), 50);
  } else if (/^upgrade: *websocket/im.test(head)) {
    if (path.startsWith("/refuse")) socket.write("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    else socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
  } else {
    const send = () => socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${head.length}\r\n\r\n${head}`);
    if (path.startsWith("/slow")) setTimeout(send, 2000);
    else send();
  }
}

export interface Victim {
  readonly process: ChildProcess;
  readonly pid: number;
  /** Lines of its standard output (the access log) and of its standard error (its own log). */
  readonly access: string[];
  readonly log: string[];
  memory(): Promise<Memory>;
  /** The sum of a counter over all label sets that have these labels. */
  count(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  /** Connections that it serves. */
  connections(): Promise<number>;
  /** Open descriptors; undefined where the system does not tell. */
  descriptors(): number | undefined;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

export interface Mesh {
  readonly ports: Ports;
  readonly root: TestRoot;
  readonly victim: Victim;
  readonly echo: App;
  readonly raw: App;
  readonly admin: App;
  close(): Promise<void>;
}

/** Starts the sample mesh: applications here, its proxies in one other process. */
export async function startMesh(
  options: {
    readonly drainMs?: number;
    /** Shell words before the program: `ulimit -n 100 &&`. */
    readonly limits?: string;
    readonly stdout?: number;
    readonly echo?: (socket: Socket) => void;
    readonly raw?: (socket: Socket) => void;
  } = {},
): Promise<Mesh> {
  const dir = mkdtempSync(join(tmpdir(), "isthmus-hostile-"));
  const [passthrough, edge, explicit, echo, echoApp, raw, rawApp, adminApp] = (await freePorts(8)) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const ports: Ports = { passthrough, edge, explicit, echo, echoApp, raw, rawApp, adminApp };
  const root = await TestRoot.make();
  const trust = root.trust.kind === "trust" ? root.trust.roots : "";
  const proxies = await Promise.all(
    proxiesOf(ports).map(async ({ account, ...proxy }) => {
      const { chain, key } = await root.workload(account.namespace, account.name);
      return { ...proxy, chain, key };
    }),
  );
  const orders: Orders = { yaml: meshYaml(ports), drainMs: options.drainMs ?? 0, trust, proxies, addresses };
  const file = join(dir, "orders.json");
  writeFileSync(file, JSON.stringify(orders));
  const apps = await Promise.all([
    startApp(echoApp, options.echo ?? carelessHttp),
    startApp(rawApp, options.raw ?? ((socket) => void socket.pipe(socket))),
    startApp(adminApp, carelessHttp),
  ]);
  const victim = await startVictim(file, options);
  return {
    ports,
    root,
    victim,
    echo: apps[0],
    raw: apps[1],
    admin: apps[2],
    close: async () => {
      if (victim.process.exitCode === null) victim.process.kill("SIGKILL");
      await victim.exited;
      await Promise.all(apps.map((app) => app.close()));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function startVictim(
  orders: string,
  { limits = "", stdout }: { readonly limits?: string; readonly stdout?: number },
): Promise<Victim> {
  const program = transpiled("checks/hostile/testing/victim.ts");
  const child = spawn("/bin/sh", ["-c", `${limits} exec "$0" --expose-gc "$@"`, process.execPath, program, orders], {
    stdio: ["ignore", stdout ?? "pipe", "pipe", "ipc"],
  });
  const access: string[] = [];
  const log: string[] = [];
  if (child.stdout) follow(child.stdout, access);
  follow(child.stderr!, log);
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.once("exit", (code, signal) => resolve({ code, signal })),
  );
  const waiting = new Map<string, Array<(told: never) => void>>();
  child.on("message", (told: Told) => waiting.get(told.kind)?.shift()?.(told as never));
  const hear = <K extends Told["kind"]>(kind: K) =>
    new Promise<Extract<Told, { kind: K }>>((resolve, reject) => {
      waiting.set(kind, [...(waiting.get(kind) ?? []), resolve]);
      void exited.then(({ code, signal }) =>
        reject(new Error(`the proxies' process ended (${code ?? signal}):\n${log.slice(-20).join("\n")}`)),
      );
    });
  const ask = <K extends Question>(question: K) => {
    const answer = hear(question);
    child.send(question);
    return answer;
  };
  await hear("ready");
  const pid = child.pid!;
  return {
    process: child,
    pid,
    access,
    log,
    exited,
    memory: async () => (await ask("memory")).memory,
    connections: async () => (await ask("open")).open,
    count: async (name, labels = {}) => {
      const { text } = await ask("metrics");
      const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
      return text
        .split("\n")
        .filter(
          (line) =>
            (line.startsWith(`${name}{`) || line.startsWith(`${name} `)) && wanted.every((w) => line.includes(w)),
        )
        .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
    },
    descriptors: () => {
      try {
        return readdirSync(`/proc/${pid}/fd`).length;
      } catch {
        return undefined;
      }
    },
  };
}

/** Resident memory of a process in bytes, as the system sees it; undefined where it does not tell. */
export function residentBytes(pid: number): number | undefined {
  try {
    const kb = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return kb === undefined ? undefined : Number(kb) * 1024;
  } catch {
    return undefined;
  }
}

function follow(stream: NodeJS.ReadableStream, lines: string[]): void {
  let rest = "";
  stream.setEncoding("utf8").on("data", (text: string) => {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    for (const line of parts) lines.push(line);
    // A flood is not kept for ever.
    if (lines.length > 50_000) lines.splice(0, lines.length - 20_000);
  });
}

/** A connection of the attacker's; errors are outcomes. */
export function dial(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

/** A connection through the client's proxy to a service, as an application that knows its proxy opens it. */
export async function tunnel(mesh: Mesh, host: keyof typeof addresses, port: number): Promise<Socket> {
  const socket = await dial(mesh.ports.explicit);
  socket.write(`CONNECT ${host}:${port} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`);
  const head = await readUntil(socket, "\r\n\r\n");
  if (!head.startsWith("HTTP/1.1 200")) throw new Error(`no tunnel: ${head}`);
  return socket;
}

/** What came until `mark` was there, or the connection ended. */
export function readUntil(socket: Socket, mark: string | RegExp, timeoutMs = 10_000): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const done = () => {
      clearTimeout(timer);
      socket.off("data", onData).off("end", done).off("close", done);
      resolve(text);
    };
    const onData = (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (typeof mark === "string" ? text.includes(mark) : mark.test(text)) done();
    };
    const timer = setTimeout(() => {
      socket.off("data", onData).off("end", done).off("close", done);
      reject(new Error(`nothing more in ${timeoutMs} ms after ${JSON.stringify(text.slice(0, 300))}`));
    }, timeoutMs);
    socket.on("data", onData).once("end", done).once("close", done);
    if (socket.destroyed || socket.readableEnded) done();
  });
}

/** Everything until the far end closes. */
export const readAll = (socket: Socket, timeoutMs = 10_000) => readUntil(socket, /(?!)/, timeoutMs);

/** Looks again and again, a few times a second, until it is so; says what was last seen when it never is. */
export async function eventually<T>(
  look: () => T | Promise<T>,
  good: (seen: T) => boolean,
  options: { readonly timeoutMs?: number; readonly what?: string } = {},
): Promise<T> {
  const until = Date.now() + (options.timeoutMs ?? 10_000);
  for (;;) {
    const seen = await look();
    if (good(seen)) return seen;
    if (Date.now() > until) throw new Error(`${options.what ?? "it never came"}; last: ${JSON.stringify(seen)}`);
    await pause(150);
  }
}

export const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
