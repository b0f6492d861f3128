import { selects } from "../values/index.ts";
import { type Finding, finding } from "./finding.ts";
import { type Clash, clashOf, type GatewayServer } from "./gateways.ts";

/** Gateways that nobody runs, that name no certificate, and servers that want what an older one has. */
export function checkGateways(servers: readonly GatewayServer[]): readonly Finding[] {
  const found: Finding[] = [];
  const seen: GatewayServer[] = [];
  for (const one of servers) {
    const { server, origin } = one;
    const mode = server.tls?.mode;
    if (Object.keys(one.selector).length === 0)
      found.push(
        finding("mesh/gateway-unsupported", {
          origin,
          message: "the Gateway selects no workload, so nobody runs it",
          hint: "write selector labels, such as istio: ingressgateway",
        }),
      );
    if ((mode === "SIMPLE" || mode === "MUTUAL" || mode === "OPTIONAL_MUTUAL") && !hasCertificate(server.tls))
      found.push(
        finding("mesh/certificate-missing", {
          severity: "error",
          origin,
          message: `port ${server.port.number} opens TLS but names no certificate`,
          hint: "write tls.credentialName, or tls.serverCertificate and tls.privateKey",
        }),
      );
    const clash = firstClash(seen, one);
    if (clash) found.push(said(clash, one));
    const different = seen.find(
      (older) => older.key !== one.key && samePort(older, one) && older.proxyProtocol !== one.proxyProtocol,
    );
    if (different)
      found.push(
        finding("mesh/gateway-proxy-protocol", {
          origin,
          message: `port ${server.port.number} follows what Gateway "${different.key}", which is older, says of the PROXY protocol`,
          hint: "write the annotation networking.isthmus.dev/proxy-protocol alike on both, or give them different ports",
        }),
      );
    seen.push(one);
  }
  return found;
}

function hasCertificate(tls: GatewayServer["server"]["tls"]): boolean {
  return (
    tls?.credentialName !== undefined ||
    (tls?.credentialNames.length ?? 0) > 0 ||
    (tls?.tlsCertificates.length ?? 0) > 0 ||
    (tls?.serverCertificate !== undefined && tls.privateKey !== undefined)
  );
}

interface Found {
  readonly older: GatewayServer;
  readonly clash: Clash;
}

/** What an older server of the same workloads keeps from this one. */
function firstClash(older: readonly GatewayServer[], one: GatewayServer): Found | undefined {
  for (const other of older) {
    if (!selects(other.selector, one.selector) && !selects(one.selector, other.selector)) continue;
    const clash = clashOf(other, one);
    if (clash) return { older: other, clash };
  }
  return undefined;
}

function said({ older, clash }: Found, { server, origin, key }: GatewayServer): Finding {
  const { number, name } = server.port;
  const whose = older.key === key ? `server "${older.server.port.name}" of the same Gateway` : `Gateway "${older.key}"`;
  if (clash.kind === "port")
    return finding("mesh/gateway-port-conflict", {
      severity: "error",
      origin,
      message: `server "${name}" does not get port ${number}: ${whose} has it already, and ${clash.why}`,
      hint: "give one of the two another port",
    });
  return finding("mesh/gateway-duplicate", {
    origin,
    message: `port ${number} is served for ${clash.hosts.map((host) => `"${host}"`).join(", ")} by ${whose} already, which is older`,
    hint:
      number === 15443
        ? "no Gateway for port 15443 has to be made by hand; delete this one"
        : "give the servers different hosts, or different ports",
  });
}

function samePort(a: GatewayServer, b: GatewayServer): boolean {
  if (a.server.port.number !== b.server.port.number) return false;
  return selects(a.selector, b.selector) || selects(b.selector, a.selector);
}
