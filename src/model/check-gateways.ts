import { covers, type Hostname, selects } from "../values/index.ts";
import { type Finding, finding } from "./finding.ts";
import type { GatewayServer } from "./gateways.ts";

/** Two Gateways that want the same host on the same port of the same workload. */
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
    const other = seen.find((older) => older.key !== one.key && clash(older, one));
    if (other)
      found.push(
        finding("mesh/gateway-duplicate", {
          origin,
          message: `port ${server.port.number} is served for these hosts by Gateway "${other.key}" already, which is older`,
          hint:
            server.port.number === 15443
              ? "no Gateway for port 15443 has to be made by hand; delete this one"
              : "give the Gateways different hosts, or different ports",
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
    (tls?.serverCertificate !== undefined && tls.privateKey !== undefined)
  );
}

function clash(a: GatewayServer, b: GatewayServer): boolean {
  if (a.server.port.number !== b.server.port.number) return false;
  if (!selects(a.selector, b.selector) && !selects(b.selector, a.selector)) return false;
  const plain = (one: GatewayServer) => one.server.tls === undefined;
  // Plain HTTP servers share a port by the Host header; only what is chosen by SNI can clash.
  if (plain(a) && plain(b)) return false;
  return a.server.hosts.some((left) =>
    b.server.hosts.some(
      (right) =>
        left.host === "*" ||
        right.host === "*" ||
        covers(left.host as Hostname, right.host as Hostname) ||
        covers(right.host as Hostname, left.host as Hostname),
    ),
  );
}
