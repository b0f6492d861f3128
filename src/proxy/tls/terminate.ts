import type { Socket } from "node:net";
import type { Server, TLSSocket } from "node:tls";
import { Failure } from "../../base/index.ts";
import type { DownstreamTls } from "../config/tls.ts";
import type { TlsFacts } from "../l4/connection.ts";
import type { Stop } from "../l4/stop.ts";
import type { ClientHello } from "./client-hello.ts";
import type { ServerContext, TlsContexts } from "./contexts.ts";
import { describeMatchers, isPinned, matchesNames, namesOf, peerCertificate } from "./identity.ts";
import { handshakeFailed, untrusted } from "./refusal.ts";

export interface Terminated {
  readonly socket: TLSSocket;
  readonly facts: TlsFacts;
}

interface Waiting {
  resolve(socket: TLSSocket): void;
  reject(failure: Failure): void;
}

/** Handshakes that run, by their raw socket: a handshake server tells of all of them in the same two events. */
const waiting = new WeakMap<Socket, Waiting>();
const watched = new WeakSet<Server>();

/** The socket beneath a TLS one. The runtime keeps it there and documents it nowhere; this file alone relies on it. */
const beneath = (socket: TLSSocket) => (socket as unknown as { readonly _parent?: Socket })._parent;

function watch(server: Server): void {
  if (watched.has(server)) return;
  watched.add(server);
  server.on("secureConnection", (socket) => {
    const raw = beneath(socket);
    if (raw) waiting.get(raw)?.resolve(socket);
  });
  server.on("tlsClientError", (error, socket) => {
    const raw = beneath(socket);
    if (raw) waiting.get(raw)?.reject(handshakeFailed("client", error));
  });
}

/** ALPN as Envoy does it: ours decide the order; where nothing is shared, nothing is agreed and nobody is alerted. */
function serverFor(context: ServerContext, tls: DownstreamTls, offered: readonly string[]): Server {
  return tls.alpn.some((name) => offered.includes(name)) ? context.withAlpn : context.withoutAlpn;
}

/**
 * Opens TLS on an accepted connection whose first bytes (the hello) are back in `raw`. Throws a `Failure` that names the
 * cause: `tls/no-client-certificate`, `tls/untrusted`, `tls/expired`, `tls/wrong-identity`, `tls/handshake…`.
 */
export async function terminate(options: {
  readonly raw: Socket;
  readonly hello: ClientHello | undefined;
  readonly tls: DownstreamTls;
  readonly contexts: TlsContexts;
  readonly signal: Stop;
}): Promise<Terminated> {
  const { raw, hello, tls, contexts, signal } = options;
  const context = contexts.server(tls);
  const server = serverFor(context, tls, hello?.alpn ?? []);
  watch(server);
  const socket = await new Promise<TLSSocket>((resolve, reject) => {
    const settle = (act: () => void) => {
      waiting.delete(raw);
      raw.off("close", onClose);
      signal.removeEventListener("abort", onAbort);
      act();
    };
    const onClose = () =>
      settle(() =>
        reject(new Failure("tls/handshake-closed", "the client closed the connection during the TLS handshake")),
      );
    const onAbort = () => {
      raw.destroy();
      onClose();
    };
    waiting.set(raw, {
      resolve: (opened) => settle(() => resolve(opened)),
      reject: (failure) => settle(() => reject(failure)),
    });
    raw.once("close", onClose);
    signal.addEventListener("abort", onAbort, { once: true });
    server.emit("connection", raw);
  });
  const failure = refuse(socket, tls);
  if (failure) {
    socket.on("error", () => {});
    socket.destroy();
    throw failure;
  }
  return { socket, facts: factsOf(socket, hello?.sni, context.found.certificates[0]?.chain) };
}

/** Why the client may not come in; undefined when it may. */
function refuse(socket: TLSSocket, tls: DownstreamTls): Failure | undefined {
  if (!tls.trust) return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (!certificate) {
    if (!tls.requireClientCertificate) return undefined;
    return new Failure("tls/no-client-certificate", "the client showed no certificate and must", {
      hint: "does a sidecar with mutual TLS stand in front of it?",
    });
  }
  const names = namesOf(certificate.subjectAltName);
  if (!socket.authorized) return untrusted("client", String(socket.authorizationError), names.uris[0]);
  if (tls.names.length > 0 && !matchesNames(names, tls.names)) {
    const found = [...names.uris, ...names.dnsNames].map((name) => `"${name}"`).join(", ") || "no name";
    return new Failure("tls/wrong-identity", `the client is ${found}; it must be ${describeMatchers(tls.names)}`);
  }
  if (tls.pins && !isPinned(certificate, tls.pins))
    return new Failure("tls/wrong-identity", "the client's certificate is none of those whose hash is listed");
  return undefined;
}

const ownUris = new Map<string, readonly string[]>();

function factsOf(socket: TLSSocket, sni: string | undefined, chain: string | undefined): TlsFacts {
  const certificate = socket.getPeerX509Certificate();
  return {
    sni,
    alpn: typeof socket.alpnProtocol === "string" ? socket.alpnProtocol : undefined,
    version: socket.getProtocol() ?? "",
    peer: certificate && peerCertificate(certificate),
    localUris: urisOf(chain, socket),
  };
}

/** Names of our own certificate, read once per certificate. */
export function urisOf(chain: string | undefined, socket: TLSSocket): readonly string[] {
  if (chain === undefined) return [];
  let uris = ownUris.get(chain);
  if (!uris) {
    uris = namesOf(socket.getX509Certificate()?.subjectAltName).uris;
    if (ownUris.size > 100) ownUris.clear();
    ownUris.set(chain, uris);
  }
  return uris;
}
