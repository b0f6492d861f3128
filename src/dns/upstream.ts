import { createSocket } from "node:dgram";
import { connect } from "node:net";
import { type Clock, Failure } from "../base/index.ts";
import { formatSocketAddress, ipFamily, type SocketAddress } from "../values/index.ts";

// One question to one server. The bytes that were asked are passed on, and those that came are given back, untouched but
// for the id.

export interface Ask {
  readonly server: SocketAddress;
  /** The query, with any id. */
  readonly request: Buffer;
  readonly questionEnd: number;
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** A whole number from 0 to 65535 that nobody can guess. */
  readonly randomId: () => number;
  readonly signal: AbortSignal;
}

/**
 * Asks over UDP from a port of its own, which the kernel picks at random. Replies from elsewhere never arrive, as the
 * socket is connected; those with another id or question are ignored, so that who guesses wrong changes nothing. Rejects
 * with `Failure` `dns/upstream-timeout` or `dns/upstream-failed`.
 */
export function askOverUdp(ask: Ask): Promise<Buffer> {
  const { server, clock, signal } = ask;
  const { sent, id } = withId(ask);
  return new Promise((resolve, reject) => {
    const socket = createSocket({ type: ipFamily(server.ip) === 4 ? "udp4" : "udp6" });
    const finish = (end: () => void) => {
      timer.cancel();
      signal.removeEventListener("abort", onAbort);
      socket.removeAllListeners();
      // A late error of a socket that nobody waits for any more tells nobody anything.
      socket.on("error", () => {});
      socket.close();
      end();
    };
    const onAbort = () => finish(() => reject(signal.reason));
    const timer = clock.after(ask.timeoutMs, () => finish(() => reject(tooLate(ask))));
    signal.addEventListener("abort", onAbort, { once: true });
    socket.on("error", (cause) => finish(() => reject(failed(ask, cause))));
    socket.on("message", (reply: Buffer) => {
      if (isReply(reply, { id, request: sent, questionEnd: ask.questionEnd })) finish(() => resolve(reply));
    });
    socket.connect(server.port, server.ip, () => socket.send(sent));
  });
}

/** Asks over TCP, one connection a question. */
export function askOverTcp(ask: Ask): Promise<Buffer> {
  const { server, clock, signal } = ask;
  const { sent, id } = withId(ask);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: server.ip, port: server.port });
    let pending: Buffer = Buffer.alloc(0);
    const finish = (end: () => void) => {
      timer.cancel();
      signal.removeEventListener("abort", onAbort);
      socket.removeAllListeners();
      socket.on("error", () => {});
      socket.destroy();
      end();
    };
    const onAbort = () => finish(() => reject(signal.reason));
    const timer = clock.after(ask.timeoutMs, () => finish(() => reject(tooLate(ask))));
    signal.addEventListener("abort", onAbort, { once: true });
    socket.on("error", (cause) => finish(() => reject(failed(ask, cause))));
    socket.on("close", () => finish(() => reject(failed(ask, new Error("it closed the connection")))));
    socket.on("data", (chunk: Buffer) => {
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      if (pending.length < 2 || pending.length < 2 + pending.readUInt16BE(0)) return;
      const reply = Buffer.from(pending.subarray(2, 2 + pending.readUInt16BE(0)));
      if (isReply(reply, { id, request: sent, questionEnd: ask.questionEnd })) finish(() => resolve(reply));
      else finish(() => reject(failed(ask, new Error("its reply is to another question"))));
    });
    const length = Buffer.alloc(2);
    length.writeUInt16BE(sent.length, 0);
    socket.write(Buffer.concat([length, sent]));
  });
}

function withId({ request, randomId }: Ask): { readonly sent: Buffer; readonly id: number } {
  const sent = Buffer.from(request);
  const id = randomId() & 0xffff;
  sent.writeUInt16BE(id, 0);
  return { sent, id };
}

/** Whether bytes are a reply to what was asked: id, the response bit, and the question, whose case may differ. */
export function isReply(
  reply: Buffer,
  asked: { readonly id: number; readonly request: Buffer; readonly questionEnd: number },
): boolean {
  const { id, request, questionEnd } = asked;
  if (reply.length < questionEnd || reply.readUInt16BE(0) !== id) return false;
  if ((reply[2]! & 0xf8) !== 0x80 || reply.readUInt16BE(4) !== 1) return false;
  for (let at = 12; at < questionEnd; at++) {
    if (reply[at] !== request[at] && lowered(reply[at]!) !== lowered(request[at]!)) return false;
  }
  // The type and class behind the name are numbers, not letters.
  return reply.compare(request, questionEnd - 4, questionEnd, questionEnd - 4, questionEnd) === 0;
}

function lowered(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte;
}

function tooLate({ server, timeoutMs }: Ask): Failure {
  return new Failure(
    "dns/upstream-timeout",
    `name server "${formatSocketAddress(server)}" did not answer in ${timeoutMs} ms`,
    { hint: "is it reachable from here? try: dig @ADDRESS example.com" },
  );
}

function failed({ server }: Ask, cause: Error): Failure {
  return new Failure("dns/upstream-failed", `name server "${formatSocketAddress(server)}": ${cause.message}`, {
    cause,
  });
}
