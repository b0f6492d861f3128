import type { Clock, Logger, Metrics, Scope } from "../base/index.ts";
import type { Ip, SpiffeId } from "../values/index.ts";
import type { Authority } from "./authority.ts";
import { type RenewalSettings, startWorkloadCerts, type WorkloadCerts } from "./workload-certs.ts";

/**
 * The control plane's own certificate, signed by its own authority and kept fresh, also when the CA files change. Agents
 * reach it by one of `dnsNames` or `ips`; peers know it by `identity`.
 */
export function startServerCertificate(
  deps: {
    readonly authority: Authority;
    readonly identity: SpiffeId;
    readonly dnsNames: readonly string[];
    readonly ips: readonly Ip[];
    readonly clock: Clock;
    readonly random: () => number;
    readonly log: Logger;
    readonly metrics: Metrics;
    readonly settings?: RenewalSettings;
  },
  scope: Scope,
): WorkloadCerts {
  const { authority, identity, dnsNames, ips } = deps;
  const certs = startWorkloadCerts(
    {
      ...deps,
      expected: identity,
      fetch: async (csr, { ttlMs }) => authority.signServer(csr, { identity, dnsNames, ips }, ttlMs),
    },
    scope,
  );
  scope.defer(authority.cacerts.subscribe(() => certs.renew()));
  return certs;
}
