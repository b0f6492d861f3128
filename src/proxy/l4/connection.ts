import type { Duplex } from "node:stream";
import type { SocketAddress, SpiffeId } from "../../values/index.ts";
import type { Stop } from "./stop.ts";

/** What the far end's certificate says, after the chain was verified. */
export interface PeerCertificate {
  readonly identity: SpiffeId | undefined;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  /** RFC 2253 text; empty for workload certificates. */
  readonly subject: string;
  /** SHA-256 of the DER, lower-case hex. */
  readonly sha256: string;
}

/** How a connection is protected. */
export interface TlsFacts {
  readonly sni: string | undefined;
  readonly alpn: string | undefined;
  /** `TLSv1.3`. */
  readonly version: string;
  readonly peer: PeerCertificate | undefined;
  /** URI names of the certificate that we showed. */
  readonly localUris: readonly string[];
}

/** One accepted connection, after its listener, its destination and its protection were settled. */
export interface Connection {
  readonly id: number;
  /** Plain bytes: the TCP socket, or the TLS socket over it. `allowHalfOpen` is set. */
  readonly socket: Duplex;
  readonly remote: SocketAddress;
  /** Where the caller meant to go. */
  readonly destination: SocketAddress;
  /** False when `destination` is only our own socket's address: nobody redirected the connection here. */
  readonly redirected?: boolean;
  readonly listener: string;
  readonly tls: TlsFacts | undefined;
  /** SNI as read from the ClientHello, also where TLS is passed on unopened. */
  readonly sni: string | undefined;
  readonly startedMs: number;
  /** Aborts when the listener drains: finish what runs, take nothing new (HTTP/1.1 `connection: close`, HTTP/2 GOAWAY). */
  readonly draining: Stop;
  /** Aborts when it must end now. */
  readonly signal: Stop;
}
