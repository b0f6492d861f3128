import { X509Certificate } from "node:crypto";
import type { PeerCertificate } from "node:tls";
import { createSecureContext, checkServerIdentity as dnsIdentityProblem, type SecureContextOptions } from "node:tls";
import {
  type ChannelCredentials,
  credentials,
  experimental,
  logVerbosity,
  ServerCredentials,
  setLogVerbosity,
} from "@grpc/grpc-js";
import { type Cell, explain, Failure, type Logger, type Scope } from "../../base/index.ts";
import { parseSpiffeId, type SpiffeId } from "../../values/index.ts";

// The library writes to standard error by itself what we report as failures and log lines of our own.
setLogVerbosity(logVerbosity.NONE);

/** What one end of a TLS connection proves itself with and whom it believes. PEM. */
export interface TlsMaterial {
  /** The own certificate first, then what is between it and the root. */
  readonly certChainPem: string;
  readonly privateKeyPem: string;
  /** One or more roots, one after the other. */
  readonly rootsPem: string;
}

/** The same for a client, which may have no certificate of its own (yet). */
export type ClientTlsMaterial = TlsMaterial | { readonly rootsPem: string };

export type ServerSecurity =
  | { readonly kind: "plaintext" }
  | {
      readonly kind: "tls";
      /** Read anew at every handshake; running connections keep what they began with. */
      readonly material: Cell<TlsMaterial>;
      /** `optional`: a client without a certificate, or with one that we do not believe, is let in as nobody. */
      readonly clientCertificate: "required" | "optional";
      /** A client that has not finished the handshake by then is dropped; 10 s unless told otherwise. */
      readonly handshakeTimeoutMs?: number;
    };

/** Who must be at the other end: the name in the certificate, or one of these identities. */
export type ExpectedServer =
  | { readonly kind: "dns"; readonly name: string }
  | {
      readonly kind: "spiffe";
      readonly ids: readonly SpiffeId[];
      /** Sent as SNI; a name that no one resolves will do. */
      readonly serverName: string;
    };

export type ClientSecurity =
  | { readonly kind: "plaintext" }
  | { readonly kind: "tls"; readonly material: Cell<ClientTlsMaterial>; readonly expect: ExpectedServer };

/** A caller's certificate, verified against our roots during the handshake. */
export interface CallerCertificate {
  readonly der: Uint8Array;
  /** Every URI among its subject alternative names, as it stands there. */
  readonly uris: readonly string[];
  /** Those of them that are workload identities. */
  readonly spiffeIds: readonly SpiffeId[];
}

export function callerCertificate(peer: PeerCertificate): CallerCertificate {
  const uris = uriNames(new X509Certificate(peer.raw).subjectAltName ?? "");
  return { der: new Uint8Array(peer.raw), uris, spiffeIds: uris.flatMap((uri) => parseSpiffeId(uri) ?? []) };
}

/**
 * The URIs in what the runtime prints for subject alternative names. A value with a comma, a quote or a control
 * character in it is printed as a JSON string, so a name cannot pass for two.
 */
export function uriNames(printed: string): readonly string[] {
  const uris: string[] = [];
  const entry = /\s*([^:,]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:,|$)/gy;
  for (let match = entry.exec(printed); match; match = entry.exec(printed)) {
    if (match[1] !== "URI") continue;
    const value = match[2] ?? "";
    uris.push(value.startsWith('"') ? String(JSON.parse(value)) : value);
  }
  return uris;
}

/**
 * The library's own hot-rotated credentials drop every connection until an update reached them by a callback; these
 * begin with what the cell holds, and keep the last good material when a new one does not load.
 */
class RotatingServerCredentials extends ServerCredentials {
  constructor(security: Extract<ServerSecurity, { kind: "tls" }>, log: Logger, scope: Scope) {
    super(
      {
        requestCert: true,
        rejectUnauthorized: security.clientCertificate === "required",
        minVersion: "TLSv1.2",
        handshakeTimeout: security.handshakeTimeoutMs ?? 10_000,
      },
      serverContext(security.material.value),
    );
    scope.defer(
      security.material.subscribe((material) => {
        try {
          this.updateSecureContextOptions(serverContext(material));
        } catch (err) {
          log.error({ err }, "certificate refused, serving with the last good one");
        }
      }),
    );
  }

  _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

/** Throws when key and certificate do not load, before the library would drop connections over it. */
function serverContext(material: TlsMaterial): SecureContextOptions {
  const options: SecureContextOptions = {
    ca: material.rootsPem,
    cert: material.certChainPem,
    key: material.privateKeyPem,
    minVersion: "TLSv1.2",
  };
  loadable(options);
  return options;
}

function loadable(options: SecureContextOptions): void {
  try {
    createSecureContext(options);
  } catch (cause) {
    throw new Failure("grpc/bad-credentials", `certificate or key does not load: ${explain(cause)}`, {
      hint: "key and certificate must be PEM and belong together",
      cause,
    });
  }
}

export function serverCredentials(security: ServerSecurity, log: Logger, scope: Scope): ServerCredentials {
  if (security.kind === "plaintext") return ServerCredentials.createInsecure();
  return new RotatingServerCredentials(security, log, scope);
}

/** Credentials that read the cell at each new connection. */
export function channelCredentials(security: ClientSecurity): ChannelCredentials {
  if (security.kind === "plaintext") return credentials.createInsecure();
  const { material, expect } = security;
  loadable(
    "certChainPem" in material.value
      ? { ca: material.value.rootsPem, cert: material.value.certChainPem, key: material.value.privateKeyPem }
      : { ca: material.value.rootsPem },
  );
  type Listener<T> = (update: T | null) => void;
  const stops = new Map<unknown, () => void>();
  const tell = <T>(listener: Listener<T>, of: (value: ClientTlsMaterial) => T | null) => {
    stops.set(
      listener,
      material.subscribe((value) => listener(of(value))),
    );
    listener(of(material.value));
  };
  const forget = (listener: unknown) => {
    stops.get(listener)?.();
    stops.delete(listener);
  };
  const roots = (value: ClientTlsMaterial) => ({ caCertificate: Buffer.from(value.rootsPem) });
  const identity = (value: ClientTlsMaterial) =>
    "certChainPem" in value
      ? { certificate: Buffer.from(value.certChainPem), privateKey: Buffer.from(value.privateKeyPem) }
      : null;
  const provider = {
    addCaCertificateListener: (listener: Listener<{ caCertificate: Buffer }>) => tell(listener, roots),
    removeCaCertificateListener: forget,
    addIdentityCertificateListener: (listener: Listener<{ certificate: Buffer; privateKey: Buffer }>) =>
      tell(listener, identity),
    removeIdentityCertificateListener: forget,
  };
  return experimental.createCertificateProviderChannelCredentials(
    provider,
    "certChainPem" in material.value ? provider : null,
    { checkServerIdentity: (_host, certificate) => serverProblem(expect, certificate) },
  );
}

/** Why this server is not the one that was to be called; undefined when it is. The chain was verified before. */
export function serverProblem(expect: ExpectedServer, certificate: PeerCertificate): Error | undefined {
  if (expect.kind === "dns") return dnsIdentityProblem(expect.name, certificate);
  const { uris } = callerCertificate(certificate);
  if (uris.some((uri) => expect.ids.some((id) => id === uri))) return undefined;
  const found = uris.length === 0 ? "no identity" : uris.map((uri) => JSON.stringify(uri)).join(", ");
  return new Failure("grpc/wrong-server", `the server proved ${found}, expected ${expect.ids.join(" or ")}`);
}

/** The name that goes into SNI and that the library compares by. */
export function serverNameOf(security: ClientSecurity): string | undefined {
  if (security.kind === "plaintext") return undefined;
  return security.expect.kind === "dns" ? security.expect.name : security.expect.serverName;
}
