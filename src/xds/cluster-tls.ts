import {
  type Endpoint,
  isGlobal,
  type MeshSettings,
  namespaceOfGlobal,
  type Service,
  type ServicePort,
  type Subset,
} from "../model/index.ts";
import { Cluster_DiscoveryType, type ClusterSchema } from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { isHttp2, isWildcard, outbound, sniName } from "../values/index.ts";
import { ruleClientTls } from "./outside-tls.ts";
import type { PortPolicy } from "./policy.ts";
import { meshAlpn, meshClientTls, plaintext, type ServerIdentity } from "./tls.ts";
import type { Fields } from "./typed.ts";

/** TLS towards the service: the mesh's own, what a rule asks for, or none. */
export function protection(facts: {
  readonly service: Service;
  readonly port: ServicePort;
  readonly subset: Subset | undefined;
  readonly settings: MeshSettings;
  readonly policy: PortPolicy;
  readonly endpoints: readonly Endpoint[];
  readonly discovery: Cluster_DiscoveryType;
}): Fields<typeof ClusterSchema> {
  const { service, port, subset, settings } = facts;
  const { tls } = facts.policy;
  const mesh = () =>
    meshClientTls({
      sni: tls?.sni ?? sniName(outbound(service.hostname, port.number, subset?.name ?? "")),
      server: serverOf(service, { names: tls?.subjectAltNames ?? [], endpoints: facts.endpoints, settings }),
      alpn: meshAlpn(port.protocol),
    });
  if (tls?.mode === "ISTIO_MUTUAL") return { transportSocket: mesh() };
  if (tls?.mode === "DISABLE") return {};
  if (tls?.mode !== undefined) {
    const own = isWildcard(service.hostname) ? undefined : service.hostname;
    const sni = tls.sni ?? own;
    const names = service.subjectAltNames.length > 0 ? service.subjectAltNames : sni === undefined ? [] : [sni];
    return {
      transportSocket: ruleClientTls(tls, { sni, names, alpn: isHttp2(port.protocol) ? ["h2"] : [] }),
    };
  }
  if (service.location === "external") return {};
  // Silence is no permission: what another cluster answers for is mutual TLS unless a rule says otherwise.
  if (isGlobal(service.hostname)) return { transportSocket: mesh() };
  if (facts.discovery === Cluster_DiscoveryType.ORIGINAL_DST) {
    // Where the caller picks the endpoint there is nothing to match it with: all of them must understand.
    const all = facts.endpoints.length > 0 && facts.endpoints.every((one) => one.mutualTls);
    return all ? { transportSocket: mesh() } : {};
  }
  return {
    transportSocketMatches: [
      { name: "tlsMode-istio", match: { tlsMode: "istio" }, transportSocket: mesh() },
      { name: "tlsMode-disabled", match: {}, transportSocket: plaintext() },
    ],
  };
}

/** Who may answer: those whom the author names; else the accounts of the endpoints; else anybody of the right namespace. */
export function serverOf(
  service: Service,
  options: {
    readonly names: readonly string[];
    readonly endpoints: readonly Endpoint[];
    readonly settings: MeshSettings;
  },
): ServerIdentity {
  const { names, endpoints, settings } = options;
  if (names.length > 0) return { kind: "one-of", names };
  if (service.subjectAltNames.length > 0) return { kind: "one-of", names: service.subjectAltNames };
  const speaking = isGlobal(service.hostname) ? endpoints : endpoints.filter((one) => one.mutualTls);
  const accounts = new Set(speaking.map((one) => one.identity));
  if (speaking.length > 0 && !accounts.has(undefined))
    return { kind: "one-of", names: ([...accounts] as string[]).sort() };
  const namespace = isGlobal(service.hostname) ? namespaceOfGlobal(service.hostname) : service.namespace;
  const domain = `spiffe://${settings.trustDomain}/ns/`;
  return { kind: "begins", prefix: namespace === undefined ? domain : `${domain}${namespace}/` };
}
