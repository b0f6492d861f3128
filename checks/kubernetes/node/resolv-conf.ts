import { dnsServiceIp, outsideIp } from "./addresses.ts";
import type { PodSpec } from "./pod-object.ts";

interface Resolver {
  readonly nameservers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
}

/** The machine's own: one server outside, which knows the names of load balancers and no others. */
const machine: Resolver = { nameservers: [outsideIp], searches: [], options: [] };

/** The text of a pod's /etc/resolv.conf: its policy, and its own settings merged in as a kubelet does. */
export function resolvConf(spec: Pick<PodSpec, "dnsPolicy" | "dnsConfig" | "hostNetwork">, namespace: string): string {
  const { nameservers, searches, options } = merge(base(spec, namespace), spec.dnsConfig);
  return [
    ...(searches.length > 0 ? [`search ${searches.join(" ")}`] : []),
    ...nameservers.map((ip) => `nameserver ${ip}`),
    ...(options.length > 0 ? [`options ${options.join(" ")}`] : []),
    "",
  ].join("\n");
}

function base(
  { dnsPolicy = "ClusterFirst", hostNetwork }: Pick<PodSpec, "dnsPolicy" | "hostNetwork">,
  namespace: string,
): Resolver {
  const policy = dnsPolicy === "ClusterFirst" && hostNetwork ? "Default" : dnsPolicy;
  switch (policy) {
    case "None":
      return { nameservers: [], searches: [], options: [] };
    case "Default":
      return machine;
    default:
      return {
        nameservers: [dnsServiceIp],
        searches: [`${namespace}.svc.cluster.local`, "svc.cluster.local", "cluster.local", ...machine.searches],
        options: ["ndots:5"],
      };
  }
}

/** Most that a pod's resolver may have (Kubernetes' validation). */
const most = { nameservers: 3, searches: 32 };

/** The pod's servers and searches come behind the policy's; its options go before those of the same name. */
function merge(from: Resolver, config: PodSpec["dnsConfig"]): Resolver {
  const own = new Map(
    config?.options?.map(({ name, value }) => [name ?? "", value ? `${name}:${value}` : (name ?? "")]),
  );
  const kept = from.options.filter((option) => !own.has(option.split(":")[0]!));
  return {
    nameservers: [...new Set([...from.nameservers, ...(config?.nameservers ?? [])])].slice(0, most.nameservers),
    searches: [...new Set([...from.searches, ...(config?.searches ?? [])])].slice(0, most.searches),
    options: [...kept, ...own.values()],
  };
}

/** The text of a pod's /etc/hosts. */
export function hostsFile(
  spec: Pick<PodSpec, "hostAliases" | "subdomain" | "hostname">,
  pod: { readonly name: string; readonly namespace: string; readonly ip: string },
): string {
  const hostname = spec.hostname ?? pod.name;
  const full = spec.subdomain ? `${hostname}.${spec.subdomain}.${pod.namespace}.svc.cluster.local\t` : "";
  return [
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    `${pod.ip}\t${full}${hostname}`,
    ...(spec.hostAliases ?? []).map(({ ip, hostnames = [] }) => `${ip}\t${hostnames.join("\t")}`),
    "",
  ].join("\n");
}
