import {
  type ClusterDns,
  type DnsStatus,
  type DnsTarget,
  type DomainState,
  formatPlace,
  formatVersion,
  type Loading,
  lineDiff,
  type Written,
} from "../install/index.ts";

// What is found and done in a cluster's DNS, in words.

export function dnsName({ workload, version }: ClusterDns): string {
  const where = `${workload.kind} ${workload.namespace}/${workload.name}`;
  if (workload.program === "kube-dns") return `kube-dns (${where})`;
  return `CoreDNS ${version ? formatVersion(version) : "of an unknown version"} (${where})`;
}

export function formName(target: DnsTarget): string {
  const whose = target.whose === "node-local" ? ", for the cache on each node" : "";
  switch (target.kind) {
    case "stub-domains":
      return `stub domains${whose}`;
    case "server-file":
      return `form ${target.form}, as a file that the Corefile imports`;
    case "corefile":
      return `form ${target.form}${whose}`;
  }
}

/** As a diff of one file. */
export function diffText({ target, change }: Pick<Written, "target" | "change">): string {
  const { place } = target;
  const name = `${place.namespace}/${place.configMap}/${place.key}`;
  const head = (text: string | undefined, side: string) => (text === undefined ? "/dev/null" : `${side}/${name}`);
  const body = lineDiff(change.before ?? "", change.after ?? "");
  if (body === "" && change.before === change.after) return "";
  return `--- ${head(change.before, "a")}\n+++ ${head(change.after, "b")}\n${body}`;
}

export function writtenText({ target, change, wrote }: Written, done: string): string {
  const same = change.taken.find((one) => one.same);
  if (same) return `${formatPlace(target.place)}: somebody has made it already, and it says the same (${same.text})`;
  return `${formatPlace(target.place)}: ${wrote ? done : "nothing to change"} (${formName(target)})`;
}

export function loadingText(loading: Loading): { readonly good: boolean; readonly text: string } {
  switch (loading.kind) {
    case "loaded":
      return { good: true, text: `loaded by ${loading.pods} ${loading.pods === 1 ? "pod" : "pods"}` };
    case "refused":
      return { good: false, text: `pod ${loading.pod} refused it: see kubectl -n kube-system logs ${loading.pod}` };
    case "waiting":
      return { good: false, text: `loaded by ${loading.loaded} of ${loading.pods} pods so far` };
    case "restart":
      return { good: false, text: `${loading.why}: its pods must be started anew, which --restart does` };
    case "unknown":
      return { good: true, text: `whether it is loaded cannot be seen from here: ${loading.why}` };
  }
}

/** How a person looks from within the cluster. */
export function askCommand(context: string, domain: string): string {
  return `kubectl --context ${context} run dns-check --rm -it --restart=Never --image=busybox -- nslookup NAME.NAMESPACE.${domain}`;
}

export function stateText(state: DomainState): string {
  switch (state.kind) {
    case "right":
      return state.line === undefined ? "right" : `right (line ${state.line})`;
    case "by-hand":
      return `right, made by somebody else: ${state.text}`;
    case "stale":
      return `asks ${state.servers.join(", ") || "nobody"}, which is not what is wanted now`;
    case "taken":
      return `taken by somebody else: ${state.taken.text}`;
    case "reverted":
      return `was installed and is gone: ${state.by} wrote last, ${state.time}`;
    case "absent":
      return "not installed";
    case "orphaned":
      return `asks ${state.servers.join(", ") || "nobody"}, and the mesh's DNS is not there`;
    case "broken":
      return state.failure.message;
  }
}

export function statusLines({ found, mesh, ips, targets }: DnsStatus): readonly string[] {
  const lines = [dnsName(found)];
  if (mesh) lines.push(`mesh DNS ${ips.join(", ")}: ${mesh.ready} of ${mesh.endpoints} endpoints ready`);
  else lines.push("mesh DNS: there is no Service isthmus-dns");
  for (const { target, domains, loading } of targets) {
    lines.push(`${formatPlace(target.place)}, ${formName(target)}:`);
    for (const { domain, state } of domains) lines.push(`  ${domain}: ${stateText(state)}`);
    if (loading) lines.push(`  ${loadingText(loading).text}`);
  }
  return lines;
}
