import { readFile } from "node:fs/promises";
import { type ClientSecurity, type ClientTlsMaterial, openChannel } from "../../ads/index.ts";
import { Cell, type Clock, Failure, type Logger, type Metrics, type Scope } from "../../base/index.ts";
import { certificateClient, startWorkloadCerts, type WorkloadCerts } from "../../ca/index.ts";
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
  const rootsPem = await readFile(rootCertFile, "utf8").catch((cause: Error) => {
    throw new Failure(
      "agent/root-cert",
      `cannot read the mesh's root certificate "${rootCertFile}": ${cause.message}`,
      { cause },
    );
  });
  const material = new Cell<ClientTlsMaterial>({ rootsPem });
  const security: ClientSecurity = { kind: "tls", material, expect: { kind: "dns", name: serverName } };
  const channel = openChannel({ target: discovery, security }, scope);
  const certificates = startWorkloadCerts(
    {
      fetch: certificateClient({ channel, clock: deps.clock, tokenFile, clusterId }),
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
