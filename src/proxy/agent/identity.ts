import { type ClientSecurity, type ClientTlsMaterial, openChannel } from "../../ads/index.ts";
import { Cell, type Clock, Failure, type Logger, type Metrics, type Scope } from "../../base/index.ts";
import {
  bundleOf,
  certificateClient,
  decodeTrustBundle,
  type FetchCertificate,
  type HeldCertificate,
  readHeldCertificate,
  startWorkloadCerts,
  type WorkloadCertificate,
  type WorkloadCerts,
} from "../../ca/index.ts";
import type { SpiffeId } from "../../values/index.ts";
import { certificateSecret, type Secrets, trustSecret } from "../config/secret.ts";
import { startRootFile } from "./root-file.ts";

export interface IdentityConfig {
  /** Where the control plane is: `host:port`. */
  readonly discovery: string;
  /** The name that its certificate must have. */
  readonly serverName: string;
  /** The mesh's root, given to the workload beside its token. */
  readonly rootCertFile: string;
  readonly tokenFile: string;
  readonly clusterId: string;
  readonly expected: SpiffeId | undefined;
}

/** Who this proxy is, kept fresh, and how it shows that to the control plane. */
export interface Identity {
  readonly certificates: WorkloadCerts;
  /** With the root alone until the first certificate came, with the certificate from then on. */
  readonly security: ClientSecurity;
  /** What TLS configurations name: `default`, the certificate, and `ROOTCA`, whom to believe. */
  readonly secrets: Cell<Secrets>;
}

/** What is kept of it over a restart. */
export interface KeptIdentity {
  readonly certificate: HeldCertificate | undefined;
  keepCertificate(certificate: WorkloadCertificate): void;
}

/** Reads the root and begins to ask for a certificate, or goes on with the one that was kept; does not wait for one. */
export async function startIdentity(
  config: IdentityConfig,
  deps: {
    readonly clock: Clock;
    readonly random: () => number;
    readonly log: Logger;
    readonly metrics: Metrics;
    readonly kept: KeptIdentity | undefined;
  },
  scope: Scope,
): Promise<Identity> {
  const { discovery, serverName, rootCertFile, tokenFile, clusterId, expected } = config;
  const { clock, log, kept } = deps;
  const roots = await startRootFile(rootCertFile, { clock, log }, scope);
  const material = new Cell<ClientTlsMaterial>({ rootsPem: roots.value.pem });
  const security: ClientSecurity = { kind: "tls", material, expect: { kind: "dns", name: serverName } };
  // A connection for each request: it shows the certificate of then, which the first one could not, and none idles for
  // the hours in between. With a certificate that is believed the token does not count, so it may be gone by then.
  const fetch: FetchCertificate = async (csr, options) => {
    const own = scope.child();
    const channel = openChannel({ target: discovery, security }, own);
    const common = { channel, clock, clusterId };
    try {
      return await certificateClient({ ...common, tokenFile })(csr, options);
    } catch (caught) {
      const held = "certChainPem" in material.value;
      if (!(held && caught instanceof Failure && caught.code === "ca/token-unreadable")) throw caught;
      return await certificateClient(common)(csr, options);
    } finally {
      await own.close();
    }
  };
  const initial = resumed();
  const certificates = startWorkloadCerts(
    {
      fetch,
      ...deps,
      ...(expected === undefined ? {} : { expected }),
      ...(initial === undefined ? {} : { initial }),
    },
    scope,
  );
  const secrets = new Cell<Secrets>(new Map());
  scope.defer(
    certificates.current.subscribe((current) => {
      show(current);
      if (current) kept?.keepCertificate(current);
    }),
  );
  scope.defer(
    roots.subscribe(() => {
      show(certificates.current.value);
      // Peers may believe other roots by now, and the CA says which.
      certificates.renew();
    }),
  );
  show(certificates.current.value);
  return { certificates, security, secrets };

  function show(current: WorkloadCertificate | undefined): void {
    if (!current) {
      material.set({ rootsPem: roots.value.pem });
      return;
    }
    const { certChainPem, privateKeyPem, rootsPem } = current;
    // The control plane is whom the file vouches for, or the CA did: after a change of roots one may know before the other.
    const believed = bundleOf([...roots.value.roots, ...decodeTrustBundle(rootsPem).roots]);
    material.set({ certChainPem, privateKeyPem, rootsPem: believed.pem });
    secrets.set(
      new Map([
        ["default", certificateSecret(certChainPem, privateKeyPem)],
        ["ROOTCA", trustSecret(rootsPem)],
      ]),
    );
  }

  function resumed() {
    const held = kept?.certificate;
    if (!held) return undefined;
    const read = readHeldCertificate(held, { expected, nowMs: clock.now(), trust: roots.value });
    if (!read.ok) {
      log.warn({ reason: read.reason }, "kept certificate ignored");
      return undefined;
    }
    const { serial, notAfter } = read.certificate;
    log.info({ serial, notAfter: new Date(notAfter).toISOString() }, "going on with the kept certificate");
    return { certificate: read.certificate, sinceMs: held.sinceMs };
  }
}
