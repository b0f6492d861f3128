import { Resolver } from "node:dns/promises";
import { formatSocketAddress, type Ip } from "../../values/index.ts";

/** What a name server said to one question. */
export type Answered =
  | { readonly kind: "addresses"; readonly addresses: readonly string[] }
  | { readonly kind: "no-name" }
  | { readonly kind: "no-data" }
  /** It is there, and could not say. */
  | { readonly kind: "failed"; readonly code: string }
  | { readonly kind: "unreachable"; readonly code: string };

/** Asks one server for the addresses of a name, from here. From outside of a cluster its DNS is hardly ever reachable. */
export async function askDns(
  server: { readonly ip: Ip; readonly port?: number },
  name: string,
  timeoutMs: number,
): Promise<Answered> {
  const resolver = new Resolver({ timeout: timeoutMs, tries: 1 });
  resolver.setServers([formatSocketAddress({ ip: server.ip, port: server.port ?? 53 })]);
  try {
    // A last dot: nothing of this machine's search list is to be tried.
    const absolute = name.endsWith(".") ? name : `${name}.`;
    const addresses = await resolver.resolve4(absolute);
    return addresses.length > 0 ? { kind: "addresses", addresses } : { kind: "no-data" };
  } catch (caught) {
    const { code = "UNKNOWN" } = caught as NodeJS.ErrnoException;
    if (code === "ENOTFOUND") return { kind: "no-name" };
    if (code === "ENODATA") return { kind: "no-data" };
    if (code === "ESERVFAIL" || code === "EREFUSED") return { kind: "failed", code };
    return { kind: "unreachable", code };
  }
}

export type Ask = typeof askDns;

/**
 * As `askDns`, once the server has shown that it is of a cluster: on many networks somebody on the way answers whatever is
 * asked of port 53, and what they say of the mesh means nothing. `clusterDomain` is that of the cluster's own services.
 */
export async function askOfCluster(
  server: { readonly ip: Ip },
  { name, clusterDomain }: { readonly name: string; readonly clusterDomain: string },
  timeoutMs: number,
  ask: Ask = askDns,
): Promise<Answered> {
  // What every cluster's DNS answers, and hardly anybody else.
  const first = await ask(server, `kubernetes.default.svc.${clusterDomain}`, timeoutMs);
  if (first.kind !== "addresses") return { kind: "unreachable", code: first.kind };
  return await ask(server, name, timeoutMs);
}
