import { connect, createServer, type Socket } from "node:net";
import { type Clock, explain, Failure, type Logger, type Scope } from "../../../base/index.ts";
import { ipFamily, type SocketAddress } from "../../../values/index.ts";
import type { ResolveDestination } from "../../explicit-listener.ts";
import { openExplicit, type Prepared, parseWish, type Wish } from "../../l4/explicit.ts";
import { peek, takeBytes } from "../../l4/sniff.ts";
import { splice } from "../../l4/splice.ts";
import { Stopper } from "../../l4/stop.ts";

// Where nothing captures connections, applications name their proxy and say to it where they want to go: in HTTP
// (CONNECT, or requests with a whole URL) or SOCKS 5. Envoy's listeners go by destination addresses and speak no SOCKS.
// So the agent hears the wish, finds the address of the name, and hands the connection to Envoy with that address in
// a PROXY header: from there on everything is as if it had been captured on its way.

/** The longest head of a request; Envoy takes no longer one either. */
const longestHead = 60 * 1024;
const headMs = 10_000;
/** More connections at once are closed as they come. */
const mostConnections = 10_000;

export async function startExplicitFront(
  options: {
    readonly listen: SocketAddress;
    /** Envoy's listener for what is handed over, on loopback. */
    readonly envoyPort: number;
    readonly resolve: ResolveDestination;
  },
  deps: { readonly clock: Clock; readonly log: Logger },
  scope: Scope,
): Promise<void> {
  const { listen, envoyPort, resolve } = options;
  const { clock } = deps;
  const log = deps.log.child({ part: "explicit" });
  const stop = new Stopper();
  const open = new Set<Socket>();

  async function serve(socket: Socket): Promise<void> {
    const prepare = async ({ host }: Wish): Promise<Prepared> => {
      const [ip] = await resolve(host);
      return ip ? { kind: "go", ip } : { kind: "no", socksReply: 4, reason: `"${host}" has no address` };
    };
    const opened = await openExplicit(socket, { clock, signal: stop, prepare });
    if (opened.kind === "closed") {
      log.debug({ reason: opened.reason }, "explicit connection refused");
      if (socket.writableEnded) socket.resume();
      else socket.destroy();
      return;
    }
    if (opened.kind === "tunnel") return lead(socket, { ip: opened.ip, port: opened.port }, Buffer.alloc(0));
    const head = await headOf(socket);
    const request = head === undefined ? undefined : readAbsolute(head);
    if (!request) return refuse(socket, "400 Bad Request", "this port is an explicit proxy: it wants a whole URL");
    const prepared = await prepare(request.wish).catch(
      (caught: unknown): Prepared => ({ kind: "no", socksReply: 4, reason: explain(caught) }),
    );
    if (prepared.kind === "no") return refuse(socket, "502 Bad Gateway", prepared.reason);
    takeBytes(socket, head!.length);
    await lead(socket, { ip: prepared.ip, port: request.wish.port }, request.head);
  }

  /** Hands the connection to Envoy, as one that was meant for `destination`. */
  async function lead(socket: Socket, destination: SocketAddress, first: Buffer): Promise<void> {
    const upstream = connect({ host: "127.0.0.1", port: envoyPort, allowHalfOpen: true, noDelay: true });
    const connected = await new Promise<boolean>((resolve) => {
      upstream.once("connect", () => resolve(true));
      upstream.once("error", () => resolve(false));
      socket.once("close", () => resolve(false));
    });
    if (!connected) {
      upstream.destroy();
      // Whoever was told that a tunnel stands is told in the only way that is left.
      socket.resetAndDestroy();
      return;
    }
    upstream.write(Buffer.concat([Buffer.from(proxyLine(socket.remotePort ?? 0, destination)), first]));
    await splice({ downstream: socket, upstream, clock, idleMs: undefined, signal: stop });
  }

  const headOf = async (socket: Socket): Promise<Buffer | undefined> => {
    const waiting = { socket, clock, signal: stop, timeoutMs: headMs };
    const decide = (bytes: Buffer) => {
      const end = bytes.indexOf("\r\n\r\n");
      if (end >= 0) return Buffer.from(bytes.subarray(0, end + 4));
      return bytes.length > longestHead ? Buffer.alloc(0) : undefined;
    };
    const seen = await peek({ ...waiting, decide });
    return seen.kind === "decided" && seen.value.length > 0 ? seen.value : undefined;
  };

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    if (open.size >= mostConnections || stop.aborted) {
      socket.destroy();
      return;
    }
    open.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => open.delete(socket));
    serve(socket).catch((caught: unknown) => {
      log.warn({ err: Failure.from(caught) }, "explicit connection failed");
      socket.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) =>
      reject(
        new Failure("agent/explicit-port", `cannot listen on "${listen.ip}:${listen.port}": ${explain(cause)}`, {
          cause,
        }),
      ),
    );
    server.listen(listen.port, listen.ip, resolve);
  });
  scope.defer(async (deadline) => {
    server.close();
    if (open.size > 0 && !deadline.aborted) {
      await new Promise<void>((resolve) => {
        deadline.addEventListener("abort", () => resolve(), { once: true });
        for (const socket of open) socket.once("close", () => open.size === 0 && resolve());
      });
    }
    stop.abort();
    for (const socket of open) socket.destroy();
  });
}

function refuse(socket: Socket, status: string, reason: string): void {
  const body = `${reason.replace(/[^\x20-\x7e]/g, "?").slice(0, 300)}\n`;
  const head = `content-type: text/plain\r\nconnection: close\r\ncontent-length: ${body.length}`;
  socket.end(`HTTP/1.1 ${status}\r\n${head}\r\n\r\n${body}`);
  socket.resume();
}

/** Version 1 of the PROXY protocol: from loopback, to where the application wants to go. */
export function proxyLine(port: number, destination: SocketAddress): string {
  const [family, source] = ipFamily(destination.ip) === 6 ? ["TCP6", "::1"] : ["TCP4", "127.0.0.1"];
  return `PROXY ${family} ${source} ${destination.ip} ${port} ${destination.port}\r\n`;
}

/**
 * A request with a whole URL, and its head as it is passed on. The next request on a connection may name another
 * destination (RFC 9112 §3.2.2), which Envoy would not hear of: so one connection carries one request.
 */
export function readAbsolute(head: Buffer): { readonly wish: Wish; readonly head: Buffer } | undefined {
  const [line = "", ...fields] = head.toString("latin1").split("\r\n");
  const found = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+ http:\/\/([^/?#\s]+)\S* HTTP\/1\.[01]$/i.exec(line);
  const authority = found?.[1];
  if (authority === undefined || authority.includes("@")) return undefined;
  const wish = parseWish(/:\d+$/.test(authority) ? authority : `${authority}:80`);
  if (!wish) return undefined;
  const named = (field: string, name: string) => field.toLowerCase().startsWith(`${name}:`);
  const upgrade = fields.some((field) => named(field, "upgrade"));
  const kept = fields.filter(
    (field) => field !== "" && !["connection", "proxy-connection", "keep-alive"].some((name) => named(field, name)),
  );
  const connection = upgrade ? "Upgrade" : "close";
  return { wish, head: Buffer.from([line, ...kept, `connection: ${connection}`, "", ""].join("\r\n"), "latin1") };
}
