import { lookup, Resolver } from "node:dns/promises";
import { Failure } from "../../base/index.ts";
import { formatSocketAddress, type Ip, ipFamily, parseIp, type SocketAddress } from "../../values/index.ts";
import type { ResolveName } from "../upstream/resolve.ts";
import type { Names } from "./names.ts";

/**
 * How clusters whose endpoints are names find their addresses: names of the mesh from what the control plane told, others
 * from the name servers, with their time to live; the machine's own resolver (and hosts file) where those know nothing.
 */
export function nameResolver(options: {
  readonly names: Names;
  readonly servers: readonly SocketAddress[];
}): ResolveName {
  const { names, servers } = options;
  const resolver = new Resolver({ timeout: 1500, tries: 2 });
  if (servers.length > 0) resolver.setServers(servers.map(formatSocketAddress));

  return async (host, family) => {
    // A name of ours without an address of this family has none elsewhere either.
    const own = names.addressesOf(host);
    if (own.length > 0) return { addresses: own.filter((ip) => ipFamily(ip) === family), ttlMs: undefined };
    try {
      const records =
        family === 4 ? await resolver.resolve4(host, { ttl: true }) : await resolver.resolve6(host, { ttl: true });
      const ttl = Math.min(...records.map((record) => record.ttl));
      return { addresses: ipsOf(records.map((record) => record.address)), ttlMs: ttl * 1000 };
    } catch (cause) {
      const found = await lookup(host, { family, all: true }).catch(() => []);
      if (found.length > 0) return { addresses: ipsOf(found.map(({ address }) => address)), ttlMs: undefined };
      throw new Failure("agent/resolve", `"${host}" does not resolve: ${(cause as Error).message}`, { cause });
    }
  };
}

function ipsOf(texts: readonly string[]): readonly Ip[] {
  return texts.flatMap((text) => parseIp(text) ?? []);
}
