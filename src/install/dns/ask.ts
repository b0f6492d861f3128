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
