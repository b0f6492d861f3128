import { Failure, unreachable } from "../../../base/index.ts";
import type { KubeObject } from "../../../kube/index.ts";
import { nearest } from "../../../resources/index.ts";
import { covers, parseHostname } from "../../../values/index.ts";
import { absoluteName, domainsOf, type Facts } from "./facts.ts";
import { type Check, type Finding, fine, maybe, wrong } from "./finding.ts";

interface EntrySpec {
  readonly hosts?: readonly string[];
  readonly addresses?: readonly string[];
  readonly exportTo?: readonly string[];
  readonly resolution?: string;
}

interface EntryStatus {
  readonly conditions?: ReadonlyArray<{ readonly type?: string; readonly status?: string; readonly message?: string }>;
}

const specOf = (entry: KubeObject) => (entry["spec"] ?? {}) as EntrySpec;
const nameOf = ({ metadata }: KubeObject) => `ServiceEntry ${metadata.namespace}/${metadata.name}`;

/** How the name is written, and what a resolver makes of it. */
export const spelling: Check = ({ wish, status, clusterDomain }) => {
  const name = wish.name?.toLowerCase().replace(/\.$/, "");
  if (name === undefined) return [];
  const domains = domainsOf(status);
  const domain = domains.find((one) => name.endsWith(`.${one}`));
  if (domain !== undefined) {
    const labels = name.slice(0, -domain.length - 1).split(".");
    if (labels.length === 2) return [];
    return [
      maybe(
        `"${name}" is not of the form name.namespace.${domain}`,
        `${labels.length} labels before .${domain}`,
        `write NAME.NAMESPACE.${domain}`,
      ),
    ];
  }
  if (name.endsWith(`.svc.${clusterDomain}`)) {
    return [
      maybe(
        `"${name}" is a name of this cluster's own`,
        `it ends in .svc.${clusterDomain}`,
        `a service of another cluster is NAME.NAMESPACE.${domains[0]}`,
      ),
    ];
  }
  if (name.split(".").length === 2) {
    return [
      maybe(
        `"${name}" needs a search domain to become "${name}.${domains[0]}"`,
        "pods with a sidecar have it; gateways and others do not",
        `write "${name}.${domains[0]}"`,
      ),
    ];
  }
  return [
    wrong(
      `"${name}" is no name of the mesh`,
      `it does not end in ${domains.map((one) => `.${one}`).join(" or ")}`,
      `write NAME.NAMESPACE.${domains[0]}`,
    ),
  ];
};

/** Whether any ServiceEntry of the cluster makes the name, and for whom. */
export const known: Check = (facts) => {
  const name = absoluteName(facts.wish.name, facts.status);
  const host = name === undefined ? undefined : parseHostname(name);
  if (!host) return [];
  const { entries } = facts;
  if (entries instanceof Failure) {
    return [maybe("whether the name is known cannot be seen", entries.message, entries.hint)];
  }
  const making = entries.filter((entry) =>
    (specOf(entry).hosts ?? []).some((text) => {
      const own = parseHostname(text);
      return own !== undefined && (own === host || covers(own, host));
    }),
  );
  if (making.length === 0) {
    const hosts = entries.flatMap((entry) => specOf(entry).hosts ?? []);
    const [, close] = /^; (did you mean .*)$/.exec(nearest(host, hosts)) ?? [];
    const mend = close ?? "make a ServiceEntry for it, in the cluster that calls";
    return [
      wrong(`no ServiceEntry of this cluster has the host "${host}"`, `${entries.length} ServiceEntries read`, mend),
    ];
  }
  return [...shown(making, facts), ...making.flatMap((entry) => judged(entry)), ...conflicts(making, entries)];
};

/** `exportTo`: who may see it. Without a word of where the caller is, a narrow one is told. */
function shown(making: readonly KubeObject[], { wish }: Facts): readonly Finding[] {
  const from = wish.from?.split("/")[0];
  const seen = making.filter((entry) => {
    const { exportTo = [] } = specOf(entry);
    if (exportTo.length === 0 || exportTo.includes("*")) return true;
    return (
      from !== undefined && (exportTo.includes(from) || (exportTo.includes(".") && entry.metadata.namespace === from))
    );
  });
  const all = making.map(nameOf).join(", ");
  if (seen.length > 0) return [fine("the name is known", all)];
  const exports = making
    .map((entry) => `${nameOf(entry)} exportTo ${(specOf(entry).exportTo ?? []).join(", ")}`)
    .join("; ");
  return from === undefined
    ? [maybe("the name is for some namespaces alone", exports, "say with --from where the caller is")]
    : [wrong(`the name is not for namespace "${from}"`, exports, `add "${from}" or "*" to exportTo`)];
}

function judged(entry: KubeObject): readonly Finding[] {
  const { resolution, addresses = [] } = specOf(entry);
  const { conditions = [] } = (entry["status"] ?? {}) as EntryStatus;
  const findings = conditions
    .filter(({ status, type }) => status === "False" && type !== undefined)
    .map(({ type, message }) =>
      wrong(
        `${nameOf(entry)} is not as it should be: ${type}`,
        message ?? "its status says no more",
        "isthmus validate says what is wrong",
      ),
    );
  if (addresses.length === 0 && resolution === "NONE") {
    findings.push(
      maybe(
        "an entry of resolution NONE without addresses has no address of its own",
        nameOf(entry),
        "give it addresses",
      ),
    );
  }
  return findings;
}

/** Two entries with one host, or with one address: the older one keeps it. */
function conflicts(making: readonly KubeObject[], all: readonly KubeObject[]): readonly Finding[] {
  const findings: Finding[] = [];
  if (making.length > 1) {
    findings.push(
      maybe(
        "several entries have this host",
        making.map(nameOf).join(", "),
        "each caller gets that of its own namespace, else the oldest",
      ),
    );
  }
  for (const entry of making) {
    for (const address of specOf(entry).addresses ?? []) {
      const others = all.filter((one) => !making.includes(one) && (specOf(one).addresses ?? []).includes(address));
      if (others.length === 0) continue;
      findings.push(
        wrong(
          `the address ${address} is there twice`,
          [entry, ...others].map(nameOf).join(", "),
          "give one of them another address; the older keeps it",
        ),
      );
    }
  }
  return findings;
}

interface PodSpec {
  readonly dnsPolicy?: string;
  readonly hostNetwork?: boolean;
  readonly dnsConfig?: {
    readonly searches?: readonly string[];
    readonly options?: ReadonlyArray<{ readonly name?: string; readonly value?: string }>;
  };
  readonly containers?: ReadonlyArray<{ readonly name?: string; readonly args?: readonly string[] }>;
  readonly initContainers?: ReadonlyArray<{ readonly name?: string; readonly args?: readonly string[] }>;
}

/** The pod that asks: whom does it ask at all, and what does it try? */
export const askingPod: Check = ({ pod, wish, status }) => {
  if (!pod) return [];
  const spec = (pod["spec"] ?? {}) as PodSpec;
  const place = `pod ${pod.metadata.namespace}/${pod.metadata.name}`;
  const findings: Finding[] = [];
  const sidecar = [...(spec.containers ?? []), ...(spec.initContainers ?? [])].find(
    ({ name }) => name === "istio-proxy",
  );
  const captured = sidecar?.args?.includes("--dns-listen") ?? false;
  if (captured) {
    findings.push(
      fine(
        "its own proxy answers names of the mesh",
        `${place} has a sidecar with --dns-listen: the cluster's DNS is not asked for them`,
      ),
    );
  }
  const { dnsPolicy = "ClusterFirst", hostNetwork = false } = spec;
  const elsewhere = dnsPolicy === "None" || dnsPolicy === "Default" || (hostNetwork && dnsPolicy === "ClusterFirst");
  if (elsewhere) {
    const why =
      hostNetwork && dnsPolicy === "ClusterFirst"
        ? "hostNetwork with ClusterFirst is as Default"
        : `dnsPolicy ${dnsPolicy}`;
    const mend = hostNetwork ? "dnsPolicy: ClusterFirstWithHostNet" : "dnsPolicy: ClusterFirst";
    findings.push((captured ? maybe : wrong)("the pod does not ask the cluster's DNS", `${place}: ${why}`, mend));
  }
  const name = wish.name?.replace(/\.$/, "");
  const domain = domainsOf(status)[0]!;
  const searches = spec.dnsConfig?.searches ?? [];
  const needsSearch = name !== undefined && name.split(".").length === 2;
  if (needsSearch && !searches.includes(domain)) {
    findings.push(
      wrong(
        `the pod has no search domain "${domain}", so "${name}" stays what it is`,
        `${place}: dnsConfig.searches is ${JSON.stringify(searches)}`,
        `write "${name}.${domain}", or add the search domain (injection does)`,
      ),
    );
  }
  const ndots = spec.dnsConfig?.options?.find((option) => option.name === "ndots")?.value;
  if (needsSearch && ndots !== undefined && Number(ndots) <= 1) {
    findings.push(
      wrong(
        `with ndots ${ndots} "${name}" is asked as it is, and search domains only after that`,
        place,
        "write the whole name",
      ),
    );
  }
  return findings;
};

/** What the servers said, where they could be asked from here. */
export const asked: Check = ({ answers, wish, status }) =>
  answers.flatMap(({ who, answer }): readonly Finding[] => {
    const server = who === "mesh" ? "the mesh's DNS" : "the cluster's DNS";
    const name = absoluteName(wish.name, status);
    switch (answer.kind) {
      case "addresses":
        return [fine(`${server} answers "${name}"`, answer.addresses.join(", "))];
      case "no-name":
        return [wrong(`${server} says that there is no "${name}"`, "NXDOMAIN, asked from here")];
      case "no-data":
        return [wrong(`${server} knows "${name}" and no IPv4 address of it`, "an empty answer, asked from here")];
      case "failed":
        return [
          wrong(
            `${server} cannot say`,
            `${answer.code}, asked from here`,
            who === "cluster" ? "it cannot reach the mesh's DNS" : "it does not know all names yet",
          ),
        ];
      case "unreachable":
        return [];
      default:
        return unreachable(answer);
    }
  });
