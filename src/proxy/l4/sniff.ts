import type { Socket } from "node:net";
import type { Clock } from "../../base/index.ts";
import { type ClientHello, type HelloRefusal, readClientHello } from "../tls/client-hello.ts";
import { readWaiting } from "./reads.ts";
import type { Stop } from "./stop.ts";

/** What the first bytes of a connection are. They stay unread for whoever comes next. */
export type Sniffed =
  | { readonly kind: "tls"; readonly hello: ClientHello }
  | { readonly kind: "http1"; readonly version: "1.0" | "1.1" }
  | { readonly kind: "http2" }
  | { readonly kind: "unknown" }
  /** Nothing came in time: a protocol whose server speaks first, or a caller that means harm. */
  | { readonly kind: "silent" }
  /** Something came and did not become clear in time. */
  | { readonly kind: "slow" }
  /** Something came, did not become clear, and nothing more will come: the caller has ended its side. */
  | { readonly kind: "ended" }
  | { readonly kind: "refused"; readonly reason: HelloRefusal }
  | { readonly kind: "closed" };

export interface SniffFor {
  readonly tls: boolean;
  readonly http: boolean;
}

/** What the bytes so far are; undefined when more are needed. Pure. */
export function classify(bytes: Buffer, wanted: SniffFor): Sniffed | undefined {
  if (bytes.length === 0) return undefined;
  let undecided = false;
  if (wanted.tls) {
    const outcome = readClientHello(bytes);
    if (outcome.kind === "hello") return { kind: "tls", hello: outcome.hello };
    if (outcome.kind === "refused") return { kind: "refused", reason: outcome.reason };
    undecided = outcome.kind === "more";
  }
  if (wanted.http && !undecided) {
    const http = classifyHttp(bytes);
    if (http !== "more") return http;
    undecided = true;
  }
  return undecided ? undefined : { kind: "unknown" };
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/** Methods that are taken at their first line's beginning; others must show a whole one. */
const knownMethod = /^(GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH) +\S/;
const longestMethod = 32;
const longestLine = 8192;

function classifyHttp(bytes: Buffer): Sniffed | "more" {
  const text = bytes.toString("latin1", 0, longestLine);
  if (preface.startsWith(text.slice(0, preface.length)))
    return text.length >= preface.length ? { kind: "http2" } : "more";
  const line = /^[^\r\n]*(?=\r?\n)/.exec(text)?.[0];
  if (line !== undefined) {
    const version = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} \S+ HTTP\/(1\.[01])$/.exec(line)?.[1];
    return version ? { kind: "http1", version: version as "1.0" | "1.1" } : { kind: "unknown" };
  }
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}( |$)/.test(text.slice(0, longestMethod + 1))) return { kind: "unknown" };
  if (text.length >= longestLine)
    return knownMethod.test(text) ? { kind: "http1", version: "1.1" } : { kind: "unknown" };
  return "more";
}

/** The names by which chains ask for what was sniffed. */
export function applicationProtocols(sniffed: Sniffed): readonly string[] {
  switch (sniffed.kind) {
    case "tls":
      return sniffed.hello.alpn;
    case "http1":
      return [`http/${sniffed.version}`];
    case "http2":
      return ["h2c"];
    default:
      return [];
  }
}

/**
 * Looks at the first bytes without taking them. Never rejects. When `timeoutMs` is over it answers with what it has:
 * `silent`, or `slow` after some bytes.
 */
export function sniff(options: {
  readonly socket: Socket;
  readonly wanted: SniffFor;
  readonly timeoutMs: number | undefined;
  readonly clock: Clock;
  readonly signal: Stop;
}): Promise<Sniffed> {
  return peek({ ...options, decide: (bytes) => classify(bytes, options.wanted) }).then((outcome) => {
    if (outcome.kind === "decided") return outcome.value;
    if (outcome.kind === "closed") return { kind: "closed" };
    if (outcome.kind === "ended") return { kind: "ended" };
    return outcome.some ? { kind: "slow" } : { kind: "silent" };
  });
}

export type Peeked<T> =
  | { readonly kind: "decided"; readonly value: T }
  | { readonly kind: "timeout"; readonly some: boolean }
  /** Bytes that decide nothing, and the end behind them. */
  | { readonly kind: "ended" }
  | { readonly kind: "closed" };

/** Shows `decide` all bytes that have come, each time that more have, until it knows; the bytes stay in the socket. */
export function peek<T>(options: {
  readonly socket: Socket;
  readonly decide: (bytes: Buffer) => T | undefined;
  readonly timeoutMs: number | undefined;
  readonly clock: Clock;
  readonly signal: Stop;
}): Promise<Peeked<T>> {
  const { socket, decide, timeoutMs, clock, signal } = options;
  return new Promise((resolve) => {
    let seen = 0;
    const settle = (outcome: Peeked<T>) => {
      timer?.cancel();
      socket.off("readable", onReadable).off("close", onClose).off("error", onClose).off("end", onClose);
      signal.removeEventListener("abort", onClose);
      resolve(outcome);
    };
    const onClose = () => settle({ kind: "closed" });
    const onReadable = () => {
      // Putting bytes back tells of readable bytes again: only more than before are news, or that no more will come.
      if (socket.readableLength > 0 && socket.readableLength <= seen) {
        if (hasEnded(socket)) settle({ kind: "ended" });
        return;
      }
      const bytes = readWaiting(socket);
      if (bytes === null) return;
      seen = bytes.length;
      const value = decide(bytes);
      socket.unshift(bytes);
      if (value !== undefined) settle({ kind: "decided", value });
    };
    const timer =
      timeoutMs === undefined ? undefined : clock.after(timeoutMs, () => settle({ kind: "timeout", some: seen > 0 }));
    if (socket.destroyed || signal.aborted) return onClose();
    socket.on("readable", onReadable).once("close", onClose).once("error", onClose).once("end", onClose);
    signal.addEventListener("abort", onClose, { once: true });
    if (socket.readableLength > 0) onReadable();
  });
}

/**
 * Whether the far end has ended its side, though bytes wait in front of the end: then no event tells it. The runtime keeps
 * this there and documents it nowhere; without it the time limit does the same, later.
 */
function hasEnded(socket: Socket): boolean {
  return (
    (socket as unknown as { readonly _readableState?: { readonly ended?: boolean } })._readableState?.ended === true
  );
}

/** Takes the first `count` bytes, which must have come. */
export function takeBytes(socket: Socket, count: number): Buffer {
  const bytes = readWaiting(socket)!;
  if (bytes.length > count) socket.unshift(bytes.subarray(count));
  return bytes.subarray(0, count);
}
