import { Failure } from "../../../base/index.ts";
import type { KubeObject, ObjectApi } from "../../../kube/index.ts";
import { parseHostname } from "../../../values/index.ts";
import { type Answered, type Ask, askOfCluster } from "../ask.ts";
import { dataOf } from "../cluster-dns.ts";
import { parseCorefile } from "../corefile.ts";
import type { DnsDeps } from "../install.ts";
import { runningPods } from "../metrics.ts";
import { type DnsStatus, statusOfClusterDns } from "../status.ts";
import type { Version } from "../version.ts";
import { mainBlock } from "../zones.ts";

/** What is asked about. */
export interface DoctorWish {
  /** As an application writes it. */
  readonly name: string | undefined;
  /** Where the application is: `NAMESPACE` or `NAMESPACE/POD`. */
  readonly from: string | undefined;
  readonly domains: readonly string[] | undefined;
  readonly version: Version | undefined;
}

/** Everything that the checks look at, as it was at one moment. */
export interface Facts {
  readonly wish: DoctorWish;
  readonly namespace: string;
  readonly status: DnsStatus;
  /** The Corefile that the DNS reads; empty for kube-dns. */
  readonly corefile: string;
  /** Of the cluster's own services, as its DNS has it. */
  readonly clusterDomain: string;
  readonly dnsPods: number;
  /** Of all namespaces; or why they could not be read. */
  readonly entries: readonly KubeObject[] | Failure;
  readonly policies: readonly KubeObject[];
  /** The pod that asks, where one was named. */
  readonly pod: KubeObject | undefined;
  /** What the servers say, asked from here; they mostly cannot be reached. */
  readonly answers: ReadonlyArray<{ readonly who: "mesh" | "cluster"; readonly answer: Answered }>;
}

const askMs = 1_500;

/** Reads it all. Throws as finding the DNS does, and `kube/not-found` for a pod that is not there. */
export async function gatherFacts(wish: DoctorWish, deps: DnsDeps, ask?: Ask): Promise<Facts> {
  const { api, namespace } = deps;
  const status = await statusOfClusterDns(
    { domains: wish.domains, ips: undefined, form: undefined, version: wish.version },
    deps,
  );
  const { workload, configMaps, ips } = status.found;
  const [entries, policies, pods, pod] = await Promise.all([
    serviceEntries(api),
    networkPolicies(api, [namespace, workload.namespace]),
    runningPods(api, workload),
    podOf(api, wish.from),
  ]);
  const { corefile } = workload;
  const text = corefile ? (dataOf(configMaps.get(corefile.configMap))[corefile.key] ?? "") : "";
  const clusterDomain = workload.domain ?? clusterDomainIn(text) ?? "cluster.local";
  const name = absoluteName(wish.name, status);
  const asked =
    name === undefined
      ? []
      : [
          ...status.ips.slice(0, 1).map((ip) => ({ who: "mesh" as const, ip })),
          ...ips.slice(0, 1).map((ip) => ({ who: "cluster" as const, ip })),
        ];
  const answers = await Promise.all(
    asked.map(async ({ who, ip }) => ({
      who,
      answer: await askOfCluster({ ip }, { name: name!, clusterDomain }, askMs, ask),
    })),
  );
  return {
    wish,
    namespace,
    status,
    corefile: text,
    clusterDomain,
    dnsPods: pods.length,
    entries,
    policies,
    pod,
    answers,
  };
}

/** What the `kubernetes` directive of the main block answers for; undefined where that does not say it by itself. */
function clusterDomainIn(text: string): string | undefined {
  const parsed = parseCorefile(text);
  const main = parsed.ok ? mainBlock(parsed.corefile) : undefined;
  const { rest = [] } = main?.directives.find(({ name }) => name.text === "kubernetes") ?? {};
  const brace = rest.findIndex(({ text: word }) => word === "{");
  const zones = rest
    .slice(0, brace < 0 ? rest.length : brace)
    .map(({ text: word }) => parseHostname(word.replace(/\.$/, "")));
  return zones.find((zone) => zone !== undefined && !zone.endsWith(".arpa"));
}

/** The name with its domain, as the mesh knows it; undefined when it is none of the mesh's. */
export function absoluteName(name: string | undefined, status: DnsStatus): string | undefined {
  const lower = name?.toLowerCase().replace(/\.$/, "");
  const domains = domainsOf(status);
  if (lower === undefined || lower === "") return undefined;
  if (domains.some((domain) => lower.endsWith(`.${domain}`))) return lower;
  return lower.split(".").length === 2 ? `${lower}.${domains[0]}` : undefined;
}

export function domainsOf(status: DnsStatus): readonly string[] {
  const domains = status.targets.flatMap((target) => target.domains.map(({ domain }) => domain));
  return domains.length > 0 ? [...new Set(domains)] : ["global"];
}

async function serviceEntries(api: ObjectApi): Promise<readonly KubeObject[] | Failure> {
  for (const version of ["v1", "v1beta1", "v1alpha3"]) {
    const apiVersion = `networking.istio.io/${version}`;
    try {
      if (await api.kind(apiVersion, "ServiceEntry")) return await api.list({ apiVersion, kind: "ServiceEntry" });
    } catch (caught) {
      return Failure.from(caught);
    }
  }
  return new Failure("clusterdns/no-kind", "this cluster has no kind ServiceEntry", {
    hint: "isthmus install brings it",
  });
}

async function networkPolicies(api: ObjectApi, namespaces: readonly string[]): Promise<readonly KubeObject[]> {
  const lists = await Promise.all(
    namespaces.map((namespace) =>
      // A hint, no more: who may not read them is told nothing of them.
      api.list({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", namespace }).catch(() => []),
    ),
  );
  return lists.flat();
}

async function podOf(api: ObjectApi, from: string | undefined): Promise<KubeObject | undefined> {
  const [namespace, name] = (from ?? "").split("/");
  if (!namespace || !name) return undefined;
  const pod = await api.get({ apiVersion: "v1", kind: "Pod", metadata: { name, namespace } });
  if (pod) return pod;
  throw new Failure("kube/not-found", `there is no pod ${namespace}/${name}`, { hint: "kubectl get pods -A" });
}
