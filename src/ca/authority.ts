import { type Cell, type Clock, Failure } from "../base/index.ts";
import { type Ip, type SpiffeId, spiffeParts } from "../values/index.ts";
import { decodeCsr } from "./csr.ts";
import { issueCertificate } from "./issue.ts";
import type { PublicKey } from "./keys.ts";
import type { GeneralName } from "./names.ts";
import { encodePem } from "./pem.ts";
import { type Cacerts, chainPems } from "./roots.ts";

export interface AuthoritySettings {
  /** Identities of other trust domains get nothing. */
  readonly trustDomain: string;
  /** Lifetime of a certificate when the caller names none; 24 hours. */
  readonly defaultTtlMs?: number;
  /** A shorter wish is raised to this; 1 second. */
  readonly minTtlMs?: number;
  /** A longer wish is cut to this; 90 days. */
  readonly maxTtlMs?: number;
  /**
   * How far `notBefore` reaches back, for machines whose clocks are behind; 1 hour. It costs nothing: nobody held the key
   * in that time.
   */
  readonly backdateMs?: number;
}

/** A signed certificate with what belongs to it. PEM texts. */
export interface Issued {
  readonly certificate: string;
  /** The signing CA's certificate and further ones up to below the root, one each. */
  readonly intermediates: readonly string[];
  /** All roots in one text. */
  readonly roots: string;
  readonly identity: SpiffeId;
  readonly notBefore: number;
  readonly notAfter: number;
}

const hourMs = 3_600_000;

/**
 * Signs for workloads. All of who may have what is here: a caller gets a certificate of its own identity, for the key that
 * its request proves to hold. Subject, names and extensions that the request asks for are not even looked at.
 */
export class Authority {
  readonly #cacerts: Cell<Cacerts>;
  readonly #clock: Clock;
  readonly #settings: Required<AuthoritySettings>;
  /** The chain of a set as PEM, encoded once and not for each certificate. */
  readonly #chains = new WeakMap<Cacerts, readonly string[]>();

  constructor(deps: { readonly cacerts: Cell<Cacerts>; readonly clock: Clock; readonly settings: AuthoritySettings }) {
    this.#cacerts = deps.cacerts;
    this.#clock = deps.clock;
    this.#settings = {
      defaultTtlMs: 24 * hourMs,
      minTtlMs: 1000,
      maxTtlMs: 90 * 24 * hourMs,
      backdateMs: hourMs,
      ...deps.settings,
    };
  }

  get trustDomain(): string {
    return this.#settings.trustDomain;
  }

  /** Roots in force, PEM. */
  get roots(): string {
    return this.#cacerts.value.trust.pem;
  }

  get cacerts(): Cell<Cacerts> {
    return this.#cacerts;
  }

  /**
   * A certificate for the key in `csr` (PEM) and the identity `caller`, whoever the request names. Without a wish, or with
   * one that is not above zero, it lives the default time. Throws `ca/csr-malformed`, `ca/csr-signature`, `ca/weak-key`,
   * `ca/foreign-caller`, or `ca/expired` when the CA itself has ended.
   */
  sign(csr: string, caller: SpiffeId, requestedTtlMs?: number): Issued {
    const wish = requestedTtlMs !== undefined && requestedTtlMs > 0 ? requestedTtlMs : undefined;
    this.#checkTrustDomain(caller);
    return this.#issue({ publicKey: decodeCsr(csr), identity: caller, names: [], ttlMs: wish });
  }

  /** The control plane's own certificate: it is reached by name, so its names go along with its identity. */
  signServer(
    csr: string,
    server: { readonly identity: SpiffeId; readonly dnsNames: readonly string[]; readonly ips: readonly Ip[] },
    requestedTtlMs?: number,
  ): Issued {
    this.#checkTrustDomain(server.identity);
    const names: GeneralName[] = [
      ...server.dnsNames.map((value) => ({ kind: "dns", value }) as const),
      ...server.ips.map((value) => ({ kind: "ip", value }) as const),
    ];
    return this.#issue({ publicKey: decodeCsr(csr), identity: server.identity, names, ttlMs: requestedTtlMs });
  }

  #checkTrustDomain(identity: SpiffeId): void {
    const { trustDomain } = spiffeParts(identity)!;
    if (trustDomain !== this.#settings.trustDomain)
      throw new Failure(
        "ca/foreign-caller",
        `"${identity}" is of the trust domain "${trustDomain}"; this CA certifies "${this.#settings.trustDomain}"`,
      );
  }

  #issue(request: {
    readonly publicKey: PublicKey;
    readonly identity: SpiffeId;
    readonly names: readonly GeneralName[];
    readonly ttlMs: number | undefined;
  }): Issued {
    const cacerts = this.#cacerts.value;
    const { certificate } = cacerts;
    const { defaultTtlMs, minTtlMs, maxTtlMs, backdateMs } = this.#settings;
    const nowMs = this.#clock.now();
    if (nowMs >= cacerts.notAfter || nowMs < certificate.notBefore)
      throw new Failure(
        "ca/expired",
        `"${certificate.title}" or its issuer is valid from ${new Date(certificate.notBefore).toISOString()} to ${new Date(cacerts.notAfter).toISOString()}, not now`,
        { hint: "renew the CA files, or set this machine's clock right" },
      );
    const ttlMs = Math.min(maxTtlMs, Math.max(minTtlMs, request.ttlMs ?? defaultTtlMs));
    // Certificates count whole seconds. The end is rounded up, so that a life of one second is not none.
    const notAfter = Math.min(Math.ceil((nowMs + ttlMs) / 1000) * 1000, cacerts.notAfter);
    const notBefore = Math.max(Math.floor((nowMs - backdateMs) / 1000) * 1000, certificate.notBefore);
    const der = issueCertificate(
      {
        subject: {},
        publicKey: request.publicKey,
        names: [{ kind: "uri", value: request.identity }, ...request.names],
        notBefore,
        notAfter,
        use: { kind: "leaf" },
      },
      { subject: certificate.subject, keyId: certificate.subjectKeyId, privateKey: cacerts.privateKey },
    );
    return {
      certificate: encodePem("CERTIFICATE", der),
      intermediates: this.#chainOf(cacerts),
      roots: cacerts.trust.pem,
      identity: request.identity,
      notBefore,
      notAfter,
    };
  }

  #chainOf(cacerts: Cacerts): readonly string[] {
    let chain = this.#chains.get(cacerts);
    if (!chain) {
      chain = chainPems(cacerts);
      this.#chains.set(cacerts, chain);
    }
    return chain;
  }
}
