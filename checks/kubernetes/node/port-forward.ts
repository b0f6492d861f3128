import { spawn } from "node:child_process";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type SpdyStream, serveSpdy } from "./spdy.ts";

const protocol = "portforward.k8s.io";

/** Joins its standard streams with a port of the pod's loopback, which is where a kubelet connects as well. */
const joiner = `
const socket = require("net").connect({ port: Number(process.argv[1]), host: "127.0.0.1", allowHalfOpen: true });
socket.on("error", (error) => { process.stderr.write(error.message); process.exit(1); });
process.stdin.pipe(socket);
socket.pipe(process.stdout);
socket.on("close", () => process.exit(0));`;

/** Answers `kubectl port-forward`. `enter` stands in front of a command in the pod's network. */
export function servePortForward(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  enter: readonly string[],
): void {
  socket.on("error", () => socket.destroy());
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${request.headers.upgrade}\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  // Each connection is two streams of one number: what went wrong, and the bytes.
  const errors = new Map<string, SpdyStream>();
  serveSpdy(socket, head, (stream) => {
    const number = stream.headers.get("requestid") ?? "";
    if (stream.headers.get("streamtype") === "error") {
      errors.set(number, stream);
      return;
    }
    const error = errors.get(number);
    errors.delete(number);
    forward(stream, error, enter, socket);
  });
}

function forward(stream: SpdyStream, error: SpdyStream | undefined, enter: readonly string[], socket: Duplex): void {
  const port = stream.headers.get("port") ?? "";
  const [program, ...args] = [...enter, process.execPath, "-e", joiner, port];
  const child = spawn(program!, args, { stdio: ["pipe", "pipe", "pipe"] });
  let complaint = "";
  child.stderr.on("data", (bytes: Buffer) => {
    complaint += bytes;
  });
  child.stdin.on("error", () => {});
  stream.onData((bytes) => child.stdin.write(bytes));
  stream.onEnd(() => child.stdin.end());
  child.stdout.on("data", (bytes: Buffer) => {
    stream.write(bytes, false);
    if (!socket.writableNeedDrain) return;
    child.stdout.pause();
    socket.once("drain", () => child.stdout.resume());
  });
  socket.on("close", () => child.kill("SIGKILL"));
  child.once("error", (caught) => {
    complaint = caught.message;
  });
  child.once("close", () => {
    stream.write(Buffer.alloc(0), true);
    const said = complaint === "" ? "" : `error forwarding port ${port} to pod: ${complaint}`;
    error?.write(Buffer.from(said), true);
  });
}
