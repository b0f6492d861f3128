import { spawn } from "node:child_process";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { Clock, Scope } from "../../../src/base/index.ts";
import { createRoot } from "../../../src/ca/make-cacerts.ts";
import { type Channels, serveChannels } from "./channels.ts";
import { quote } from "./container-root.ts";
import type { ContainerRun } from "./container-run.ts";
import { sendLog } from "./log-stream.ts";
import { servePortForward } from "./port-forward.ts";

/** Finds a container of a pod of this node. */
export type FindContainer = (namespace: string, pod: string, container: string) => ContainerRun | undefined;

/**
 * What the API server asks a kubelet for: logs, commands inside containers, what a container prints. Streams are
 * WebSockets with the channels of `v5.channel.k8s.io`, which an API server passes on as kubectl sends them while its
 * feature gate TranslateStreamCloseWebsocketRequests is off.
 */
export async function startKubeletApi(
  options: { readonly host: string; readonly port: number; readonly find: FindContainer; readonly clock: Clock },
  scope: Scope,
): Promise<void> {
  const { host, port, find, clock } = options;
  // The API server of the ground trusts whoever answers at a node's address.
  const own = createRoot({ nowMs: clock.now(), organization: "test node" });
  const server = createServer({ cert: own["root-cert.pem"], key: own["ca-key.pem"] });
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => ["v5.channel.k8s.io", "v4.channel.k8s.io"].find((name) => offered.has(name)) ?? false,
  });
  server.on("request", (request, response) => {
    answer(request, response, find).catch((caught: unknown) => {
      if (!response.headersSent) response.writeHead(500);
      response.end(String(caught));
    });
  });
  server.on("upgrade", (request, socket: Duplex, head) => {
    socket.on("error", () => {});
    const refuse = (status: string, text: string) =>
      socket.end(
        `HTTP/1.1 ${status}\r\ncontent-type: text/plain\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
      );
    const url = new URL(request.url ?? "/", "https://kubelet");
    const [, verb, namespace, pod] = url.pathname.split("/").map(decodeURIComponent);
    if (verb === "portForward") {
      const anyOf = find(namespace ?? "", pod ?? "", "");
      if (!anyOf) return refuse("404 Not Found", `no such pod: ${url.pathname}`);
      return servePortForward(request, socket, head, anyOf.enter);
    }
    if (request.headers.upgrade?.toLowerCase() !== "websocket") {
      return refuse(
        "400 Bad Request",
        "the test node speaks WebSocket only: the API server needs --feature-gates=TranslateStreamCloseWebsocketRequests=false",
      );
    }
    const target = targetOf(url);
    const run = target && find(target.namespace, target.pod, target.container);
    if (!target || !run) return refuse("404 Not Found", `no such container: ${url.pathname}`);
    sockets.handleUpgrade(request, socket, head, (webSocket) =>
      attachOrExec(webSocket, target.verb, run, url.searchParams),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  scope.defer(() => {
    server.close();
    server.closeAllConnections();
    for (const socket of sockets.clients) socket.terminate();
  });
}

function targetOf({ pathname }: URL) {
  const [, verb, namespace, pod, ...rest] = pathname.split("/").map(decodeURIComponent);
  // Between pod and container there may be the pod's uid.
  const container = rest.at(-1);
  return verb && namespace && pod && container ? { verb, namespace, pod, container } : undefined;
}

async function answer(request: IncomingMessage, response: ServerResponse, find: FindContainer): Promise<void> {
  const url = new URL(request.url ?? "/", "https://kubelet");
  if (url.pathname === "/healthz") return void response.end("ok");
  const target = targetOf(url);
  if (target?.verb !== "containerLogs") {
    response.writeHead(404);
    return void response.end(`the test node has nothing at ${url.pathname}`);
  }
  const run = find(target.namespace, target.pod, target.container);
  if (!run) {
    response.writeHead(404);
    return void response.end(`no such container: ${target.container}`);
  }
  response.writeHead(200, { "content-type": "text/plain" });
  const { searchParams: query } = url;
  const stop = new AbortController();
  response.on("close", () => stop.abort());
  const previous = query.get("previous") === "true";
  const number = (name: string) => (query.has(name) ? Number(query.get(name)) : undefined);
  await sendLog({
    file: run.logFile(previous),
    tailLines: number("tailLines"),
    limitBytes: number("limitBytes"),
    until: query.get("follow") === "true" && !previous && run.running ? run.ended : undefined,
    write: (bytes) => {
      response.write(bytes);
    },
    signal: stop.signal,
  });
  response.end();
}

function attachOrExec(webSocket: WebSocket, verb: string, run: ContainerRun, query: URLSearchParams): void {
  const channels = serveChannels(webSocket);
  if (verb === "exec") return void exec(channels, run, query);
  if (verb !== "attach") return void channels.fail(`the test node has no "${verb}"`);
  const stop = new AbortController();
  channels.onClose(() => stop.abort());
  sendLog({
    file: run.logFile(),
    until: run.ended,
    write: (bytes) => channels.write(1, bytes),
    signal: stop.signal,
  }).then(
    () => channels.exit(0),
    (caught: unknown) => channels.fail(String(caught)),
  );
}

function exec(channels: Channels, run: ContainerRun, query: URLSearchParams): void {
  const place = run.exec;
  const command = query.getAll("command");
  if (!place) return void channels.fail(`container not running (${run.spec.name})`);
  if (command.length === 0) return void channels.fail("no command was given");
  const line = [...place.line, ...command];
  // A terminal of its own, where one is asked for.
  const argv =
    query.get("tty") === "true" || query.get("tty") === "1"
      ? ["script", "-qfec", line.map(quote).join(" "), "/dev/null"]
      : line;
  const child = spawn(argv[0]!, argv.slice(1), { cwd: "/", env: { ...place.env, TERM: "xterm" }, detached: true });
  child.stdin.on("error", () => {});
  channels.onData(0, (bytes) => child.stdin.write(bytes));
  channels.onEnd(0, () => child.stdin.end());
  if (!["true", "1"].includes(query.get("stdin") ?? query.get("input") ?? "")) child.stdin.end();
  for (const [number, stream] of [
    [1, child.stdout],
    [2, child.stderr],
  ] as const) {
    stream.on("data", (bytes: Buffer) => {
      stream.pause();
      channels.write(number, bytes, () => stream.resume());
    });
  }
  child.once("error", (error) => channels.fail(error.message));
  child.once("close", (code, signal) => channels.exit(code ?? (signal === "SIGKILL" ? 137 : 143)));
  channels.onClose(() => {
    try {
      if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  });
}
