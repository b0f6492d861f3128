import { createServer, type Socket } from "node:net";
import { type Clock, Failure, type Logger } from "../../base/index.ts";
import { formatSocketAddress, type Ip, type SocketAddress } from "../../values/index.ts";
import { readShared } from "./reads.ts";

/** A bound socket. */
export interface Acceptor {
  readonly bound: SocketAddress;
  readonly open: number;
  /** Takes nothing new; connections that run are not touched. Resolves when the socket is gone. */
  close(): Promise<void>;
}

/** A bound socket that is other processes' as well; `release` says that it is not listened on here any more. */
export interface SharedSocket {
  readonly handle: unknown;
  release(): void;
}

const ignore = () => {};

/** How often a full table of descriptors is spoken of. */
const sayAgainMs = 5000;

/**
 * Binds an address and hands over its connections, raw and unread. Throws a `Failure` (`proxy/listen`) when the address
 * cannot be had. Connections above the most are closed and counted. A table of descriptors that is full costs the
 * connections that come then, not the process: the runtime closes them at once and does not tell, so that most should be
 * what the table has room for.
 */
export async function accept(options: {
  readonly address: SocketAddress;
  readonly maxConnections: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** Who binds the address; this process itself when undefined. */
  readonly bind?: ((address: SocketAddress) => Promise<SharedSocket>) | undefined;
  readonly onConnection: (socket: Socket) => void;
  readonly onShed: (reason: "out-of-descriptors" | "too-many-connections") => void;
}): Promise<Acceptor> {
  const { address, clock, log } = options;
  const where = formatSocketAddress(address);
  const server = createServer({ allowHalfOpen: true, noDelay: true, highWaterMark: 64 * 1024 });
  server.maxConnections = options.maxConnections;
  const shared = await options.bind?.(address);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      shared?.release();
      reject(cannotListen(address, cause.code ?? cause.message, cause));
    });
    if (shared) server.listen(shared.handle, backlog, resolve);
    else server.listen({ host: address.ip, port: address.port, backlog, ipv6Only: address.ip !== "::" }, resolve);
  });
  server.removeAllListeners("error");
  let saidMs = Number.NEGATIVE_INFINITY;
  const say = (reason: "out-of-descriptors" | "too-many-connections", detail: string | undefined) => {
    options.onShed(reason);
    if (clock.monotonic() - saidMs < sayAgainMs) return;
    saidMs = clock.monotonic();
    log.warn({ address: where, reason, detail }, "connections turned away");
  };
  server.on("error", (error: NodeJS.ErrnoException) => say("out-of-descriptors", error.code));
  server.on("drop", () => say("too-many-connections", undefined));
  let open = 0;
  server.on("connection", (socket) => {
    open++;
    socket.once("close", () => open--);
    // A socket that fails before or after anyone looks after it must not end the process.
    socket.on("error", ignore);
    readShared(socket);
    options.onConnection(socket);
  });
  const bound = server.address() as { readonly address: string; readonly port: number };
  return {
    bound: { ip: bound.address as Ip, port: bound.port },
    get open() {
      return open;
    },
    close: () => {
      // The callback waits for connections too; those are somebody else's to wait for.
      server.close();
      shared?.release();
      return Promise.resolve();
    },
  };
}

const backlog = 4096;

/** Why an address cannot be had, from the system's code. */
export function cannotListen(address: SocketAddress, code: string, cause?: unknown): Failure {
  const hint =
    code === "EADDRINUSE"
      ? "which other process listens there?"
      : code === "EACCES"
        ? "ports below 1024 need rights"
        : undefined;
  return new Failure("proxy/listen", `cannot listen on "${formatSocketAddress(address)}": ${code}`, {
    ...(hint ? { hint } : {}),
    ...(cause === undefined ? {} : { cause }),
  });
}
