import { lookup } from "node:dns/promises";
import { type DnsOrder, type Result, within } from "./order.ts";

/** As any application would ask: with the pod's own name servers and search domains. */
export async function askDns(order: DnsOrder, timeoutMs: number): Promise<Partial<Result>> {
  const family = order.type === "A" ? 4 : 6;
  const found = await within(timeoutMs, lookup(order.name, { all: true, family, verbatim: true }), () => {});
  return { addresses: found.map(({ address }) => address) };
}
