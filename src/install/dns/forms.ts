import { type Ip, ipFamily } from "../../values/index.ts";
import { hasDirective } from "./directives.ts";
import { compareVersions, type Version } from "./version.ts";

/** How a cluster's DNS is told to ask the mesh: which program it is, and for CoreDNS how old. */
export const forms = ["kube-dns", "coredns-before-1.4.0", "coredns-1.4.0", "coredns-after-1.4.0"] as const;
export type Form = (typeof forms)[number];
export type CorednsForm = Exclude<Form, "kube-dns">;

export function formOf(version: Version): CorednsForm {
  const order = compareVersions(version, [1, 4, 0]);
  if (order === 0) return "coredns-1.4.0";
  return order < 0 ? "coredns-before-1.4.0" : "coredns-after-1.4.0";
}

/** A version that a form holds for, where only the form is known: one in whose file nothing is judged too harshly. */
export function versionOfForm(form: CorednsForm): Version | undefined {
  return form === "coredns-1.4.0" ? [1, 4, 0] : undefined;
}

export interface BlockWish {
  readonly form: CorednsForm;
  readonly version: Version | undefined;
  readonly domain: string;
  /** Where the main block listens: elsewhere nobody would ask. */
  readonly port: number;
  readonly ips: readonly Ip[];
  /** The main block's own `bind`, word for word: without it two blocks would want one address. */
  readonly bind: string | undefined;
  readonly indent: string;
}

/** The block that hands a domain to the mesh's DNS. Seconds in the cache: no longer than the mesh lets others keep a name. */
export function blockLines({ form, version, domain, port, ips, bind, indent }: BlockWish): readonly string[] {
  // Before 1.0.6 there was only `proxy`.
  const forward = version && hasDirective("forward", version) === false ? "proxy" : "forward";
  const servers = ips.map((ip) => (form === "coredns-1.4.0" ? ip : `${ipFamily(ip) === 6 ? `[${ip}]` : ip}:53`));
  const lines = ["errors", "cache 30", ...(bind === undefined ? [] : [bind]), `${forward} . ${servers.join(" ")}`];
  return [`${domain}:${port} {`, ...lines.map((line) => `${indent}${line}`), "}"];
}

/** Lines that a form's main block has. None of them is needed for the mesh's names, and none is written unless asked for. */
export function mainLines(form: CorednsForm): readonly { readonly name: string; readonly line: string }[] {
  switch (form) {
    case "coredns-before-1.4.0":
      return [{ name: "proxy", line: "proxy . /etc/resolv.conf" }];
    case "coredns-1.4.0":
      return [{ name: "forward", line: "forward . /etc/resolv.conf" }];
    case "coredns-after-1.4.0":
      return [
        { name: "ready", line: "ready" },
        { name: "forward", line: "forward . /etc/resolv.conf" },
      ];
  }
}

/** The guide's ConfigMap of a form in full, for a cluster that has none of its own to keep. */
export function guideConfigMap({
  form,
  domains,
  ips,
  clusterDomain,
}: {
  readonly form: Form;
  readonly domains: readonly string[];
  readonly ips: readonly Ip[];
  readonly clusterDomain: string;
}): object {
  const metadata = (name: string) => ({ name, namespace: "kube-system" });
  if (form === "kube-dns") {
    const stubs = Object.fromEntries(domains.map((domain) => [domain, ips]));
    return {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: metadata("kube-dns"),
      data: { stubDomains: `${JSON.stringify(stubs)}\n` },
    };
  }
  const reverse = "in-addr.arpa ip6.arpa";
  const main = [
    ".:53 {",
    "    errors",
    "    health",
    ...(form === "coredns-after-1.4.0" ? ["    ready"] : []),
    `    kubernetes ${clusterDomain} ${reverse} {`,
    "        pods insecure",
    // Refused from 1.7.0 on.
    ...(form === "coredns-after-1.4.0" ? [] : ["        upstream"]),
    `        fallthrough ${reverse}`,
    "    }",
    "    prometheus :9153",
    `    ${mainLines(form).at(-1)!.line}`,
    "    cache 30",
    "    loop",
    "    reload",
    "    loadbalance",
    "}",
  ];
  const stubs = domains.flatMap((domain) =>
    blockLines({ form, version: undefined, domain, port: 53, ips, bind: undefined, indent: "    " }),
  );
  const data = { Corefile: `${[...main, ...stubs].join("\n")}\n` };
  return { apiVersion: "v1", kind: "ConfigMap", metadata: metadata("coredns"), data };
}
