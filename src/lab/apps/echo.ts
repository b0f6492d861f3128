// An application that says what it saw, in every way in which a service may be called, all in one process:
//   HTTP_PORTS (8000,8002)  HTTP/1.1, HTTP/2 and gRPC on the same port, and WebSockets on any path
//   GRPC_PORTS (7070)       the same again
//   TCP_PORTS (9000)        answers the first bytes with a line that says who it is, and then every byte with itself
//   TLS_PORTS               as HTTP_PORTS, over TLS, with the certificate and key in TLS_CERT and TLS_KEY (PEM or base64)
//   DRAIN_SECONDS (5)       how long calls that run may go on after SIGTERM
// A request's query may ask for more: see echo/controls.ts. Each request is a line of JSON on standard output.
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import {
  createServer as createHttp2,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer as createTls } from "node:tls";
import { type Controls, Failing, readControls } from "./echo/controls.ts";
import { answerGrpc } from "./grpc-answer.ts";
import { portsFrom, servedBy, serveUntilStopped } from "./serve.ts";
import { isProgram } from "./target.ts";
import { acceptKey, WebSocketPeer } from "./websocket.ts";

/** Who answers: fields of every answer. */
export interface Me {
  readonly cluster: string;
  readonly namespace: string;
  readonly workload: string;
  readonly version: string;
  readonly pod: string;
}

export function meFromEnvironment(env: NodeJS.ProcessEnv): Me {
  return {
    cluster: env["POD_CLUSTER"] ?? "",
    namespace: env["POD_NAMESPACE"] ?? "",
    workload: env["POD_WORKLOAD"] ?? "",
    version: env["POD_VERSION"] ?? "",
    pod: servedBy,
  };
}

export type Headers = Readonly<Record<string, string | readonly string[]>>;

/** What is said of a request, as its answer and on standard output. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  readonly protocol: "http/1.0" | "http/1.1" | "h2";
  readonly headers: Headers;
}

/** A body longer than this is counted and not said back, in bytes. */
const longestBody = 64 * 1024;
/** What tells a connection of HTTP/2 from all others (RFC 9113 §3.4). */
const preface = Buffer.from("PRI * HTTP/2.0");

export interface EchoOptions {
  readonly me: Me;
  readonly onSeen: (line: string) => void;
}

export function echoServer(options: EchoOptions, tls?: { readonly cert: string; readonly key: string }): Server {
  const failing = new Failing();
  const http = createHttp({ keepAliveTimeout: 60_000, insecureHTTPParser: false }, (request, response) => {
    void answerHttp1(options, failing, request, response);
  });
  http.on("upgrade", (request, socket, head) => upgrade(options, request, socket, head));
  const http2 = createHttp2();
  http2.on("stream", (stream, headers) => void answerHttp2(options, failing, stream, headers));
  http2.on("sessionError", () => {}); // Whoever broke the connection knows; the others go on.
  if (tls) {
    const server = createTls({ ...tls, ALPNProtocols: ["h2", "http/1.1"] }, (socket) =>
      (socket.alpnProtocol === "h2" ? http2 : http).emit("connection", socket),
    );
    server.on("tlsClientError", () => {}); // A handshake that fails is the client's to tell.
    return server;
  }
  return createServer({ noDelay: true }, (socket) => sniff(socket, (isHttp2) => (isHttp2 ? http2 : http)));
}

/** Hands the connection on when its first bytes have told what it speaks; nothing of it is lost. */
function sniff(socket: Socket, serverFor: (isHttp2: boolean) => NodeJS.EventEmitter): void {
  const onError = () => socket.destroy();
  socket.on("error", onError);
  let start = Buffer.alloc(0);
  const onReadable = () => {
    for (let chunk: Buffer | null = socket.read(); chunk; chunk = socket.read()) start = Buffer.concat([start, chunk]);
    if (socket.readableEnded) return socket.destroy();
    const known = Math.min(start.length, preface.length);
    if (known === 0) return;
    const same = start.subarray(0, known).equals(preface.subarray(0, known));
    if (same && known < preface.length) return;
    socket.off("readable", onReadable);
    socket.off("end", onError);
    socket.off("error", onError);
    socket.unshift(start);
    serverFor(same).emit("connection", socket);
  };
  socket.on("readable", onReadable);
  socket.on("end", onError);
}

function say({ me, onSeen }: EchoOptions, seen: Seen, more: object): void {
  onSeen(JSON.stringify({ ...me, ...seen, ...more }));
}

async function answerHttp1(
  options: EchoOptions,
  failing: Failing,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const seen: Seen = {
    method: request.method ?? "",
    path: request.url ?? "",
    authority: request.headers.host ?? "",
    protocol: `http/${request.httpVersion}` as Seen["protocol"],
    headers: headersOf(request.headersDistinct),
  };
  const controls = readControls(seen.path);
  const status = failing.statusFor(seen, controls);
  say(options, seen, { answered: controls.reset ? "reset" : status });
  const body = await bodyOf(request);
  if (!body) return;
  await pause(controls.delayMs);
  if (response.destroyed) return;
  if (controls.reset) {
    request.socket.resetAndDestroy();
    return;
  }
  const { headers, bytes } = answerOf(options.me, seen, controls, body);
  // A status without a body must not announce one (RFC 9110 §6.4.1).
  const bare = status === 204 || status === 304 || status < 200;
  response.writeHead(status, bare ? controls.headers : { ...headers, "content-length": String(bytes.length) });
  response.end(bare || seen.method === "HEAD" ? undefined : bytes);
}

async function answerHttp2(
  options: EchoOptions,
  failing: Failing,
  stream: ServerHttp2Stream,
  incoming: IncomingHttpHeaders,
): Promise<void> {
  stream.on("error", () => stream.close());
  const seen: Seen = {
    method: String(incoming[":method"] ?? ""),
    path: String(incoming[":path"] ?? ""),
    authority: String(incoming[":authority"] ?? incoming["host"] ?? ""),
    protocol: "h2",
    headers: headersOf(incoming),
  };
  const controls = readControls(seen.path);
  const status = failing.statusFor(seen, controls);
  say(options, seen, { answered: controls.reset ? "reset" : status });
  if (String(incoming["content-type"] ?? "").startsWith("application/grpc")) {
    answerGrpc(stream, incoming, { servedBy: JSON.stringify(options.me), status });
    return;
  }
  const body = await bodyOf(stream);
  if (!body) return;
  await pause(controls.delayMs);
  if (stream.destroyed) return;
  if (controls.reset) {
    (stream.session as ServerHttp2Session | undefined)?.destroy();
    return;
  }
  const { headers, bytes } = answerOf(options.me, seen, controls, body);
  stream.respond({ ":status": status, ...headers });
  stream.end(seen.method === "HEAD" ? undefined : bytes);
}

function upgrade(options: EchoOptions, request: IncomingMessage, stream: Duplex, head: Buffer): void {
  const seen: Seen = {
    method: request.method ?? "",
    path: request.url ?? "",
    authority: request.headers.host ?? "",
    protocol: "http/1.1",
    headers: headersOf(request.headersDistinct),
  };
  stream.on("error", () => stream.destroy());
  const key = request.headers["sec-websocket-key"];
  if (request.headers.upgrade?.toLowerCase() !== "websocket" || key === undefined) {
    say(options, seen, { answered: 400 });
    stream.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    return;
  }
  say(options, seen, { answered: 101 });
  stream.write(
    `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${acceptKey(key)}\r\nx-served-by: ${JSON.stringify(options.me)}\r\n\r\n`,
  );
  const peer = new WebSocketPeer({
    stream,
    head,
    role: "server",
    events: { message: (payload, binary) => peer.send(binary ? payload : payload.toString(), binary), closed() {} },
  });
}

/** All of it, with no more kept than is said back; undefined when the client left before its end. */
function bodyOf(request: Duplex | IncomingMessage): Promise<{ text: string; bytes: number } | undefined> {
  return new Promise((resolve) => {
    const held: Buffer[] = [];
    let bytes = 0;
    request.on("data", (chunk: Buffer) => {
      if (bytes < longestBody) held.push(chunk);
      bytes += chunk.length;
    });
    request.once("end", () => resolve({ bytes, text: bytes <= longestBody ? Buffer.concat(held).toString() : "" }));
    request.once("close", () => resolve(undefined));
    request.once("error", () => resolve(undefined));
  });
}

function answerOf(me: Me, seen: Seen, controls: Controls, body: { readonly text: string; readonly bytes: number }) {
  if (controls.bytes !== undefined) {
    return {
      headers: { ...controls.headers, "content-type": "application/octet-stream" },
      bytes: Buffer.alloc(controls.bytes, "x"),
    };
  }
  const told = { ...me, ...seen, body: body.text, bodyBytes: body.bytes };
  return {
    headers: { "content-type": "application/json", "x-served-by": me.pod, ...controls.headers },
    bytes: Buffer.from(`${JSON.stringify(told)}\n`),
  };
}

/** Repeated fields joined as they may be (RFC 9110 §5.3), pseudo-fields left out. */
function headersOf(headers: NodeJS.Dict<string | string[]>): Headers {
  return Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => !name.startsWith(":"))
      .map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : String(value)]),
  );
}

function pause(ms: number): Promise<void> {
  return ms === 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
}

/** The first bytes are answered with a line that says who answers; those and all others come back as they are. */
export function echoTcpServer({ me, onSeen }: EchoOptions): Server {
  return createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    let bytes = 0;
    socket.once("data", () => {
      onSeen(JSON.stringify({ ...me, protocol: "tcp" }));
    });
    socket.on("data", (chunk: Buffer) => {
      if (bytes === 0) socket.write(`${JSON.stringify(me)}\n`);
      bytes += chunk.length;
      if (!socket.write(chunk)) socket.pause();
    });
    socket.on("drain", () => socket.resume());
    socket.on("end", () => socket.end());
  });
}

function pem(text: string | undefined): string | undefined {
  if (!text) return undefined;
  return text.includes("-----BEGIN") ? text : Buffer.from(text, "base64").toString();
}

if (isProgram(import.meta.url)) {
  const env = process.env;
  const options: EchoOptions = { me: meFromEnvironment(env), onSeen: (line) => console.log(line) };
  const [cert, key] = [pem(env["TLS_CERT"]), pem(env["TLS_KEY"])];
  const listed = (text: string | undefined) => (text ? portsFrom(text) : []);
  void serveUntilStopped("echo", [
    ...[...listed(env["HTTP_PORTS"] ?? "8000,8002"), ...listed(env["GRPC_PORTS"] ?? "7070")].map((port) => ({
      port,
      server: echoServer(options),
    })),
    ...listed(env["TCP_PORTS"] ?? "9000").map((port) => ({ port, server: echoTcpServer(options) })),
    ...(cert && key ? listed(env["TLS_PORTS"]) : []).map((port) => ({
      port,
      server: echoServer(options, { cert: cert!, key: key! }),
    })),
  ]);
}
