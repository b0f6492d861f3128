import { readFile } from "node:fs/promises";
import { type ClientSecurity, type ClientTlsMaterial, openChannel } from "../../ads/index.ts";
import { Cell, type Clock, Failure, type Logger, type Metrics, type Scope } from "../../base/index.ts";
import {
  certificateClient,
  decodeTrustBundle,
  type FetchCertificate,
  startWorkloadCerts,
  type WorkloadCerts,
} from "../../ca/index.ts";
import type { SpiffeId } from "../../values/index.ts";
import { certificateSecret, type Secrets, trustSecret } from "../config/secret.ts";

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

/** Reads root and token and begins to ask for a certificate; does not wait for it. */
export async function startIdentity(
  config: IdentityConfig,
  deps: { readonly clock: Clock; readonly random: () => number; readonly log: Logger; readonly metrics: Metrics },
  scope: Scope,
): Promise<Identity> {
  const { discovery, serverName, rootCertFile, tokenFile, clusterId, expected } = config;
  const rootsPem = await readRoots(rootCertFile);
  const material = new Cell<ClientTlsMaterial>({ rootsPem });
  const security: ClientSecurity = { kind: "tls", material, expect: { kind: "dns", name: serverName } };
  // A connection for each request: it shows the certificate of then, which the first one could not, and none idles for
  // the hours in between. With a certificate that is believed the token does not count, so it may be gone by then.
  const fetch: FetchCertificate = async (csr, options) => {
    const own = scope.child();
    const channel = openChannel({ target: discovery, security }, own);
    const common = { channel, clock: deps.clock, clusterId };
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
  const certificates = startWorkloadCerts(
    {
      fetch,
      ...deps,
      ...(expected === undefined ? {} : { expected }),
    },
    scope,
  );
  const secrets = new Cell<Secrets>(new Map());
  scope.defer(
    certificates.current.subscribe((current) => {
      if (!current) return;
      material.set(current);
      secrets.set(
        new Map([
          ["default", certificateSecret(current.certChainPem, current.privateKeyPem)],
          ["ROOTCA", trustSecret(current.rootsPem)],
        ]),
      );
    }),
  );
  return { certificates, security, secrets };
}

async function readRoots(file: string): Promise<string> {
  const where = `the mesh's root certificate "${file}"`;
  const pem = await readFile(file, "utf8").catch((cause: Error) => {
    throw new Failure("agent/root-cert", `cannot read ${where}: ${cause.message}`, {
      cause,
      hint: "it is the root-cert.pem of the control plane's CA files",
    });
  });
  try {
    decodeTrustBundle(pem);
    return pem;
  } catch (cause) {
    throw new Failure("agent/root-cert", `${where} is none: ${Failure.from(cause).message}`, {
      cause,
      hint: "it is the root-cert.pem of the control plane's CA files",
    });
  }
}
