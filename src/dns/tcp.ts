import { createServer, type Socket } from "node:net";
import type { Clock, Logger, Scope } from "../base/index.ts";
import { formatSocketAddress, ipFamily, type SocketAddress } from "../values/index.ts";
import { type Answerer, listenFailure } from "./listen.ts";

/** Connections at one time; one more is closed at once. */
const mostConnections = 256;
/** Queries of one connection that wait for an answer; no more is read until one has it. */
const mostOutstanding = 64;
/** A connection on which nothing happens for this long is closed (RFC 7766 §6.2.3), in ms. */
const idleMs = 10_000;
/** Replies that a client does not take; beyond, its queries are not read. */
const mostUnsent = 256 * 1024;

/** Serves until the scope closes: many queries a connection, answered in the order in which answers are there. */
export function serveTcp(
  address: SocketAddress,
  serving: { readonly answer: Answerer; readonly log: Logger; readonly clock: Clock; readonly scope: Scope },
): Promise<void> {
  const { answer, log, clock, scope } = serving;
  const connections = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    connections.add(socket);
    socket.on("close", () => connections.delete(socket));
    serveConnection(socket, { answer, log, clock });
  });
  server.maxConnections = mostConnections;
  return new Promise((resolve, reject) => {
    const refuse = (cause: Error) => reject(listenFailure(address, "tcp", cause));
    server.once("error", refuse);
    server.listen({ port: address.port, host: address.ip, ipv6Only: ipFamily(address.ip) === 6 }, () => {
      server.off("error", refuse);
      server.on("error", (error) =>
        log.warn({ address: formatSocketAddress(address), err: error }, "dns socket failed"),
      );
      scope.defer(
        () =>
          new Promise<void>((closed) => {
            server.close(() => closed());
            for (const socket of connections) socket.destroy();
          }),
      );
      resolve();
    });
  });
}

function serveConnection(
  socket: Socket,
  deps: { readonly answer: Answerer; readonly log: Logger; readonly clock: Clock },
): void {
  const { answer, log, clock } = deps;
  let pending: Buffer = Buffer.alloc(0);
  let outstanding = 0;
  let ended = false;
  let idle = clock.after(idleMs, () => socket.destroy(), { background: true });
  const busy = () => {
    idle.cancel();
    if (!socket.destroyed) idle = clock.after(idleMs, () => socket.destroy(), { background: true });
  };

  const blocked = () => outstanding >= mostOutstanding || socket.writableLength >= mostUnsent;
  /** Answers what is there, as far as the limits allow; then reads on or waits. */
  const work = () => {
    let at = 0;
    while (!blocked() && pending.length >= at + 2 && pending.length >= at + 2 + pending.readUInt16BE(at)) {
      const length = pending.readUInt16BE(at);
      take(pending.subarray(at + 2, at + 2 + length));
      if (socket.destroyed) return;
      at += 2 + length;
    }
    if (at > 0) pending = pending.subarray(at);
    if (blocked()) socket.pause();
    else socket.resume();
    // The client has sent its last query: the connection ends with the last answer.
    if (ended && outstanding === 0 && !blocked()) socket.end();
  };

  const take = (request: Buffer) => {
    const reply = answer(request, "tcp");
    if (reply === undefined) {
      // What is no query over TCP is nothing that a resolver would send.
      socket.destroy();
      return;
    }
    if (!(reply instanceof Promise)) {
      write(socket, reply);
      return;
    }
    outstanding++;
    reply.then(
      (bytes) => {
        outstanding--;
        if (socket.destroyed) return;
        write(socket, bytes);
        busy();
        work();
      },
      (error: unknown) => {
        outstanding--;
        log.error({ err: error }, "dns query failed");
        socket.destroy();
      },
    );
  };

  socket.on("data", (chunk: Buffer) => {
    busy();
    // A message has at most 65,537 bytes with its length, so what is held is bounded by that and one chunk.
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    work();
  });
  socket.on("drain", work);
  socket.on("end", () => {
    ended = true;
    work();
  });
  socket.on("error", (error) => log.debug({ err: error }, "dns connection broke"));
  socket.on("close", () => idle.cancel());
}

function write(socket: Socket, reply: Buffer): void {
  const framed = Buffer.allocUnsafe(2 + reply.length);
  framed.writeUInt16BE(reply.length, 0);
  reply.copy(framed, 2);
  socket.write(framed);
}
