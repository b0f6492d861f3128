import { connect as connectSocket, type Socket } from "node:net";
import { type Clock, Failure } from "../../base/index.ts";
import { formatSocketAddress, type Ip, parseIp, type SocketAddress } from "../../values/index.ts";
import type { ClusterConfig } from "../config/cluster.ts";
import type { UpstreamTransport } from "../config/transport.ts";
import { encodeProxyHeader } from "../l4/proxy-header.ts";
import { type Stop, Stopper } from "../l4/stop.ts";
import type { TlsContexts } from "../tls/contexts.ts";
import { originate } from "../tls/originate.ts";
import type { ConnectOptions, Endpoint, UpstreamSocket } from "./upstream.ts";

/**
 * A connection to an endpoint, TLS included, within the connect timeout. Throws a `Failure`:
 * `upstream/connect-refused`, `upstream/connect-timeout`, `upstream/connect-failed`, `upstream/aborted`, `tls/…`.
 */
export async function connectTo(options: {
  readonly endpoint: Endpoint;
  readonly config: ClusterConfig;
  readonly transport: UpstreamTransport;
  readonly contexts: TlsContexts;
  readonly clock: Clock;
  readonly how: ConnectOptions;
}): Promise<UpstreamSocket> {
  const { endpoint, config, transport, contexts, clock, how } = options;
  const limit = new Stopper();
  const where = formatSocketAddress(endpoint.address);
  const timer = clock.after(config.connectTimeoutMs, () =>
    limit.abort(
      new Failure(
        "upstream/connect-timeout",
        `connecting to "${where}" took longer than ${config.connectTimeoutMs} ms`,
        {
          hint: `is port ${endpoint.address.port} open between here and there?`,
        },
      ),
    ),
  );
  const onAbort = () => limit.abort(new Failure("upstream/aborted", "nobody waits for the connection any more"));
  if (how.signal?.aborted) onAbort();
  how.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const raw = await connectRaw(endpoint.address, config, limit);
    if (transport.proxyHeader && how.carries) raw.write(encodeProxyHeader(transport.proxyHeader, how.carries));
    const local: SocketAddress = {
      ip: parseIp(raw.localAddress ?? "") ?? ("0.0.0.0" as Ip),
      port: raw.localPort ?? 0,
    };
    if (!transport.tls) return { socket: raw, endpoint, local, tls: undefined };
    const { socket, facts } = await originate({
      raw,
      tls: transport.tls,
      contexts,
      peer: endpoint.key,
      alpn: how.alpn,
      nowMs: clock.now(),
      signal: limit,
    });
    return { socket, endpoint, local, tls: facts };
  } finally {
    timer.cancel();
    how.signal?.removeEventListener("abort", onAbort);
  }
}

function connectRaw(address: SocketAddress, config: ClusterConfig, signal: Stop): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectSocket({
      host: address.ip,
      port: address.port,
      ...(config.bindTo ? { localAddress: config.bindTo } : {}),
      allowHalfOpen: true,
      noDelay: true,
      ...(config.keepalive ? { keepAlive: true, keepAliveInitialDelay: config.keepalive.idleMs } : {}),
      autoSelectFamily: false,
    });
    const settle = (act: () => void) => {
      socket.off("connect", onConnect).off("error", onError);
      signal.removeEventListener("abort", onAbort);
      act();
    };
    const onConnect = () => settle(() => resolve(socket));
    const onError = (error: NodeJS.ErrnoException) => settle(() => reject(connectFailure(error)));
    const onAbort = () =>
      settle(() => {
        socket.on("error", () => {});
        socket.destroy();
        reject(signal.reason);
      });
    socket.once("connect", onConnect).once("error", onError);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}

function connectFailure(error: NodeJS.ErrnoException): Failure {
  switch (error.code) {
    case "ECONNREFUSED":
      return new Failure("upstream/connect-refused", "connection refused", {
        hint: "does a server listen on that port?",
        cause: error,
      });
    case "EMFILE":
    case "ENFILE":
      return new Failure("upstream/out-of-descriptors", "no file descriptor left for the connection", {
        hint: "raise the limit on open files (ulimit -n)",
        cause: error,
      });
    default:
      return new Failure("upstream/connect-failed", `cannot connect: ${error.code ?? error.message}`, { cause: error });
  }
}
