import { createSecureContext, createServer, type SecureContext, type Server } from "node:tls";
import { Failure } from "../../base/index.ts";
import type { Secret, Secrets } from "../config/secret.ts";
import type { DownstreamTls, SecretSource, UpstreamTls } from "../config/tls.ts";

/** The secrets that one TLS configuration uses, found at this moment. */
interface Found {
  readonly certificates: ReadonlyArray<Secret & { kind: "certificate" }>;
  readonly trust: (Secret & { kind: "trust" }) | undefined;
}

function find(tls: DownstreamTls | UpstreamTls, secrets: Secrets): Found {
  const get = <K extends Secret["kind"]>(source: SecretSource | undefined, kind: K) => {
    if (!source) return undefined;
    const secret = source.kind === "inline" ? source.secret : secrets.get(source.name);
    const named = source.kind === "named" ? `"${source.name}"` : "given inline";
    if (!secret)
      throw new Failure("tls/no-secret", `the ${kind} ${named} has not arrived`, {
        hint: named.startsWith('"kubernetes://')
          ? "is there a Secret of that name in the namespace of this pod?"
          : named.startsWith('"file-')
            ? "is the file there, and may the proxy read it?"
            : "is the control plane's certificate service reachable?",
      });
    if (secret.kind !== kind)
      throw new Failure("tls/no-secret", `the secret ${named} holds a ${secret.kind}, not a ${kind}`);
    return secret as Extract<Secret, { kind: K }>;
  };
  return {
    certificates: tls.certificates.flatMap((one) => get(one, "certificate") ?? []),
    trust: get(tls.trust, "trust"),
  };
}

const sameFound = (a: Found, b: Found) =>
  a.certificates.length === b.certificates.length &&
  a.certificates.every(
    ({ chain, key }, at) => chain === b.certificates[at]!.chain && key === b.certificates[at]!.key,
  ) &&
  a.trust?.roots === b.trust?.roots &&
  a.trust?.crl === b.trust?.crl;

/** A list of ciphers is one for TLS 1.2; without their names beside it, those of 1.3 would be turned off. */
const newCiphers = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

function pem({ certificates, trust }: Found, { ciphers }: DownstreamTls | UpstreamTls) {
  return {
    ...(certificates.length > 0
      ? { cert: certificates.map(({ chain }) => chain), key: certificates.map(({ key }) => key) }
      : {}),
    ...(ciphers === undefined ? {} : { ciphers: `${newCiphers}:${ciphers}` }),
    // Without roots of its own a context would trust what the runtime ships: an empty list trusts nobody.
    ca: trust ? [trust.roots] : [],
    ...(trust?.crl ? { crl: trust.crl } : {}),
  };
}

function made<T>(make: () => T): T {
  try {
    return make();
  } catch (caught) {
    // OpenSSL's words may quote the text it was given; only its reason is passed on.
    const { code = "unknown", reason = (caught as Error).message } = caught as { code?: string; reason?: string };
    throw new Failure("tls/bad-secret", `certificate, key and roots do not make a TLS context: ${reason} (${code})`, {
      hint: "do the certificate and the key belong together?",
    });
  }
}

/** Handshake servers of one downstream configuration; they listen nowhere and get their connections handed in. */
export interface ServerContext {
  readonly found: Found;
  /** Chooses among its ALPN names: only for clients that share one of them. */
  readonly withAlpn: Server;
  /** Agrees on none, and does not alert. */
  readonly withoutAlpn: Server;
}

/** What one upstream configuration connects with. Its sessions die with it, so trust is never outlived by a ticket. */
export interface ClientContext {
  readonly found: Found;
  readonly context: SecureContext;
  /** Latest session by endpoint, with the time after which it must not be used. */
  readonly sessions: Map<string, { readonly session: Buffer; readonly untilMs: number }>;
}

export const handshakeTimeoutMs = 15_000;
/** Seconds for which a session can be taken up again. Short: the caller's certificate is not looked at anew. */
const sessionSeconds = 300;

/** TLS contexts by configuration, remade when a secret that they use changes. */
export class TlsContexts {
  readonly #servers = new WeakMap<DownstreamTls, ServerContext>();
  readonly #clients = new WeakMap<UpstreamTls, ClientContext>();
  readonly #secrets: () => Secrets;

  constructor(secrets: () => Secrets) {
    this.#secrets = secrets;
  }

  /** Throws a `Failure` (`tls/no-secret`, `tls/bad-secret`). */
  server(tls: DownstreamTls): ServerContext {
    const found = find(tls, this.#secrets());
    const before = this.#servers.get(tls);
    if (before && sameFound(before.found, found)) return before;
    const options = {
      ...pem(found, tls),
      requestCert: tls.trust !== undefined,
      // Who is not trusted is turned away after the handshake, when the reason is known and can be told.
      rejectUnauthorized: false,
      minVersion: tls.minVersion,
      maxVersion: tls.maxVersion,
      sessionIdContext: "isthmus",
      sessionTimeout: sessionSeconds,
      handshakeTimeout: handshakeTimeoutMs,
      allowHalfOpen: true,
      honorCipherOrder: true,
    };
    const context = made(() => ({
      found,
      withAlpn: createServer({ ...options, ...(tls.alpn.length > 0 ? { ALPNProtocols: [...tls.alpn] } : {}) }),
      withoutAlpn: createServer(options),
    }));
    this.#servers.set(tls, context);
    return context;
  }

  /** Throws a `Failure` (`tls/no-secret`, `tls/bad-secret`). */
  client(tls: UpstreamTls): ClientContext {
    const found = find(tls, this.#secrets());
    const before = this.#clients.get(tls);
    if (before && sameFound(before.found, found)) return before;
    const context = made(() =>
      createSecureContext({ ...pem(found, tls), minVersion: tls.minVersion, maxVersion: tls.maxVersion }),
    );
    const fresh = { found, context, sessions: new Map() };
    this.#clients.set(tls, fresh);
    return fresh;
  }
}
