import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import { Failure } from "../../base/index.ts";
import type { UpstreamTls } from "../config/tls.ts";
import type { TlsFacts } from "../l4/connection.ts";
import type { Stop } from "../l4/stop.ts";
import type { TlsContexts } from "./contexts.ts";
import { describeMatchers, matchesNames, namesOf, peerCertificate } from "./identity.ts";
import { handshakeFailed, untrusted } from "./refusal.ts";
import { urisOf } from "./terminate.ts";

export interface Originated {
  readonly socket: TLSSocket;
  readonly facts: TlsFacts;
}

const sessionsKept = 1000;
const sessionMs = 300_000;

/**
 * Speaks TLS on a connection that is up. Throws a `Failure` that names the cause: `tls/wrong-identity` (whom we expected
 * and whom we found), `tls/untrusted`, `tls/expired`, `tls/not-tls`, `tls/handshake…`. The socket is destroyed then.
 */
export async function originate(options: {
  readonly raw: Socket;
  readonly tls: UpstreamTls;
  readonly contexts: TlsContexts;
  /** Names whom a session belongs to: the endpoint. */
  readonly peer: string;
  /** In place of the configuration's list. */
  readonly alpn?: readonly string[] | undefined;
  readonly nowMs: number;
  readonly signal: Stop;
}): Promise<Originated> {
  const { raw, tls, contexts, signal, nowMs } = options;
  const client = contexts.client(tls);
  const alpn = options.alpn ?? tls.alpn;
  const sessionKey = `${options.peer} ${alpn.join(",")}`;
  const known = client.sessions.get(sessionKey);
  const session = known && known.untilMs > nowMs ? known.session : undefined;
  let wrongIdentity: Failure | undefined;
  let found: string | undefined;
  const socket = connect({
    socket: raw,
    secureContext: client.context,
    ...(tls.sni === undefined ? {} : { servername: tls.sni }),
    ...(alpn.length > 0 ? { ALPNProtocols: [...alpn] } : {}),
    ...(session ? { session } : {}),
    // Without roots any certificate is taken, as the configuration says; the bytes are only hidden then.
    rejectUnauthorized: tls.trust !== undefined,
    // Not called on a resumed session: that one belongs to this very configuration, and was checked when it began.
    checkServerIdentity: (_host, certificate) => {
      const names = namesOf(certificate.subjectaltname);
      found = names.uris[0] ?? names.dnsNames[0];
      if (tls.names.length === 0 || matchesNames(names, tls.names)) return undefined;
      const have = [...names.uris, ...names.dnsNames].map((name) => `"${name}"`).join(", ") || "no name";
      wrongIdentity = new Failure(
        "tls/wrong-identity",
        `the server is ${have}; it must be ${describeMatchers(tls.names)}`,
        {
          hint: "does the service run under the expected namespace and service account?",
        },
      );
      return wrongIdentity;
    },
  });
  // TLS 1.2 gives its session before the certificate was looked at; it counts only once that was found good.
  let keep: ((ticket: Buffer) => void) | undefined;
  let early: Buffer | undefined;
  socket.on("session", (ticket) => {
    if (keep) keep(ticket);
    else early = ticket;
  });
  await new Promise<void>((resolve, reject) => {
    const settle = (act: () => void) => {
      socket.off("error", onError).off("close", onClose).off("secureConnect", onSecure);
      signal.removeEventListener("abort", onAbort);
      act();
    };
    const fail = (failure: unknown) =>
      settle(() => {
        client.sessions.delete(sessionKey);
        socket.on("error", () => {});
        socket.destroy();
        raw.destroy();
        reject(failure);
      });
    const onSecure = () => settle(resolve);
    const onError = (error: Error) => fail(wrongIdentity ?? verificationFailure(socket, error, found));
    const onClose = () => fail(handshakeFailed("server", Object.assign(new Error("closed"), { code: "ECONNRESET" })));
    const onAbort = () => fail(signal.reason);
    socket.once("secureConnect", onSecure).once("error", onError).once("close", onClose);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
  const certificate = socket.getPeerX509Certificate();
  const untilMs = Math.min(nowMs + sessionMs, certificate ? Date.parse(certificate.validTo) : 0);
  keep = (ticket) => {
    if (client.sessions.size >= sessionsKept) client.sessions.clear();
    client.sessions.set(sessionKey, { session: ticket, untilMs });
  };
  if (early) keep(early);
  return {
    socket,
    facts: {
      sni: tls.sni,
      alpn: typeof socket.alpnProtocol === "string" ? socket.alpnProtocol : undefined,
      version: socket.getProtocol() ?? "",
      peer: certificate && peerCertificate(certificate),
      localUris: urisOf(client.found.certificates[0]?.chain, socket),
    },
  };
}

/** Verification codes have a form of their own among the errors: `CERT_HAS_EXPIRED`, `UNABLE_TO_…`, `SELF_SIGNED_…`. */
function verificationFailure(socket: TLSSocket, error: Error, found: string | undefined): Failure {
  const code = (error as { code?: string }).code ?? "";
  if (/^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_|PATH_LENGTH)/.test(code)) {
    const raw = socket.getPeerCertificate(false)?.raw;
    const identity = found ?? (raw ? namesOf(new X509Certificate(raw).subjectAltName).uris[0] : undefined);
    return untrusted("server", code, identity);
  }
  return handshakeFailed("server", error);
}
