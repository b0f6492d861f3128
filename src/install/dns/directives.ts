import type { Corefile, Problem } from "./corefile.ts";
import { compareVersions, formatVersion, parseVersion, type Version } from "./version.ts";

// Which directives which CoreDNS knows, after `core/dnsserver/zdirectives.go` of the releases 1.4.0, 1.5.0, 1.6.2, 1.7.0,
// 1.8.6, 1.11.1, 1.12.4, 1.14.7 and 1.15.0. Of a version between two of them that differ nothing is said, and nothing of
// a directive that none of them has: somebody built their own CoreDNS.

/** The last release looked at without it, and the first with it. */
const came: Readonly<Record<string, readonly [without: string, with_: string]>> = {
  forward: ["1.0.5", "1.0.6"],
  ...rows(["cancel", "ready", "grpc"], ["1.4.0", "1.5.0"]),
  ...rows(["any", "azure"], ["1.5.0", "1.6.2"]),
  ...rows(["bufsize", "dns64", "acl", "transfer", "clouddns", "sign"], ["1.6.2", "1.7.0"]),
  ...rows(["geoip", "local", "header", "minimal"], ["1.7.0", "1.8.6"]),
  ...rows(["timeouts", "tsig", "view"], ["1.8.6", "1.11.1"]),
  ...rows(["quic", "multisocket"], ["1.11.1", "1.12.4"]),
  ...rows(["proxyproto", "grpc_server", "https", "https3", "shed", "nomad"], ["1.12.4", "1.14.7"]),
  ...rows(["siit", "dynupdate"], ["1.14.7", "1.15.0"]),
};

/** The last release with it, and the first without. */
const went: Readonly<Record<string, readonly [with_: string, without: string]>> = {
  proxy: ["1.4.0", "1.5.0"],
  federation: ["1.6.2", "1.7.0"],
};

/** What stood within the block of `kubernetes` and is refused now. */
const wentFromKubernetes: Readonly<Record<string, readonly [with_: string, without: string]>> = {
  upstream: ["1.6.2", "1.7.0"],
  resyncperiod: ["1.6.2", "1.7.0"],
};

function rows<T>(names: readonly string[], value: T): Record<string, T> {
  return Object.fromEntries(names.map((name) => [name, value]));
}

/** Whether this version is known to have the directive; undefined where that is not known. */
export function hasDirective(name: string, version: Version): boolean | undefined {
  const since = came[name];
  if (since && !atLeast(version, since[1])) return atLeast(since[0], version) ? false : undefined;
  return !gone(went[name], version);
}

/** The lines for which this version would refuse the whole file. */
export function refusedDirectives(corefile: Corefile, version: Version): readonly Problem[] {
  const problems: Problem[] = [];
  for (const { name, rest } of corefile.blocks.flatMap(({ directives }) => directives)) {
    const { file, line } = name;
    const since = came[name.text];
    const until = went[name.text];
    if (hasDirective(name.text, version) === false) {
      const when = until ? `went with ${until[1]}` : `came after ${since![0]}`;
      problems.push({ file, line, message: `CoreDNS ${formatVersion(version)} has no "${name.text}", which ${when}` });
    }
    if (name.text !== "kubernetes") continue;
    for (const [at, token] of rest.entries()) {
      const until = wentFromKubernetes[token.text];
      const beginsLine = rest[at - 1] !== undefined && rest[at - 1]!.line < token.line;
      if (!beginsLine || !gone(until, version)) continue;
      const message = `CoreDNS ${formatVersion(version)} refuses "${token.text}" in kubernetes, since ${until![1]}`;
      problems.push({ file: token.file, line: token.line, message });
    }
  }
  return problems;
}

function gone(until: readonly [string, string] | undefined, version: Version): boolean {
  return until !== undefined && atLeast(version, until[1]);
}

function atLeast(version: Version | string, other: Version | string): boolean {
  const [a, b] = [version, other].map((one) => (typeof one === "string" ? parseVersion(one)! : one));
  return compareVersions(a!, b!) >= 0;
}
