import { type Ip, parseIp } from "../values/index.ts";

/** What a resolv.conf says, as far as it matters here (resolv.conf(5)). */
export interface ResolvConf {
  readonly nameservers: readonly Ip[];
  readonly searches: readonly string[];
}

/** Lines that are not understood are passed over, as every resolver does; of several `search` lines the last one counts. */
export function parseResolvConf(text: string): ResolvConf {
  const nameservers: Ip[] = [];
  let searches: readonly string[] = [];
  for (const line of text.split(/\r?\n/)) {
    const [keyword, ...values] = line
      .replace(/[#;].*$/, "")
      .trim()
      .split(/\s+/);
    if (keyword === "nameserver") {
      const ip = parseIp(values[0] ?? "");
      if (ip) nameservers.push(ip);
    }
    if (keyword === "search" || keyword === "domain") {
      searches = values.map((domain) => domain.toLowerCase().replace(/\.$/, "")).filter(Boolean);
    }
  }
  return { nameservers, searches };
}
