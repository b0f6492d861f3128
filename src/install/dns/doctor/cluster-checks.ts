import { unreachable } from "../../../base/index.ts";
import type { Labels } from "../../../values/index.ts";
import { dnsService } from "../../names.ts";
import { parseCorefile } from "../corefile.ts";
import { refusals } from "../corefile-edit.ts";
import { hasDirective } from "../directives.ts";
import { managerOf } from "../managers.ts";
import type { DomainState } from "../status.ts";
import { configOf, formatPlace, type Target } from "../targets.ts";
import { mainBlock } from "../zones.ts";
import type { Facts } from "./facts.ts";
import { type Check, type Finding, fine, maybe, wrong } from "./finding.ts";

const again = "isthmus dns install";

/** The mesh's own DNS: there, and somebody behind it. */
export const meshService: Check = ({ status: { mesh, ips }, namespace }) => {
  if (!mesh) {
    const evidence = `no Service ${namespace}/${dnsService}`;
    return [
      wrong("the mesh has no DNS in this cluster", evidence, "isthmus install; or say with --namespace where it is"),
    ];
  }
  const evidence = `Service ${namespace}/${dnsService} (${ips.join(", ")}): ${mesh.ready} of ${mesh.endpoints} endpoints ready`;
  if (mesh.ready > 0) return [fine("the mesh's DNS has ready endpoints", evidence)];
  return [
    wrong(
      "nobody stands behind the mesh's DNS",
      evidence,
      `kubectl -n ${namespace} get pods; its names give SERVFAIL until one is ready`,
    ),
  ];
};

/** What stands in the ConfigMaps. */
export const forwarding: Check = ({ status }) =>
  status.targets.flatMap(({ target, domains }) =>
    domains.flatMap(({ domain, state }) => forwardingOf(target, domain, { state, status })),
  );

function forwardingOf(
  target: Target,
  domain: string,
  { state, status }: { readonly state: DomainState; readonly status: Facts["status"] },
): readonly Finding[] {
  const place = formatPlace(target.place);
  const local = target.whose === "node-local";
  const mend = local ? `${again} --node-local` : again;
  const manager = managerOf(status.found.configMaps.get(target.place.configMap));
  const managed = manager ? `; ${place} belongs to ${manager.name} (${manager.evidence}): ${manager.mend}` : "";
  switch (state.kind) {
    case "right":
    case "by-hand":
      return [fine(`"${domain}" is forwarded to the mesh${local ? ", on each node too" : ""}`, place)];
    case "absent":
      return local
        ? [
            wrong(
              `the cache on each node does not know "${domain}"`,
              `DaemonSet ${target.workload.name} answers pods first; nothing in ${place}`,
              mend,
            ),
          ]
        : [wrong(`the cluster's DNS does not know "${domain}"`, `nothing of it in ${place}`, mend)];
    case "reverted":
      return [
        wrong(
          `what forwarded "${domain}" was put back`,
          `${place}: ${state.by} wrote last, ${state.time}`,
          `${mend}${managed}`,
        ),
      ];
    case "stale":
      return [
        wrong(
          `"${domain}" goes to an address that is not the mesh's any more`,
          `${place} asks ${state.servers.join(", ")}; the Service has ${status.ips.join(", ")}`,
          mend,
        ),
      ];
    case "taken":
      return [
        wrong(`"${domain}" is forwarded elsewhere by somebody`, `${place}, ${state.taken.text}`, `${mend} --replace`),
      ];
    case "orphaned":
      return [
        wrong(
          `"${domain}" goes to where the mesh's DNS was`,
          `${place} asks ${state.servers.join(", ")}`,
          "isthmus install, or isthmus dns remove",
        ),
      ];
    case "broken":
      return [wrong("CoreDNS would not load its Corefile", state.failure.message, state.failure.hint)];
    default:
      return unreachable(state);
  }
}

/** Whether its pods run what the ConfigMap says. */
export const loadedByPods: Check = ({ status }) =>
  status.targets.flatMap(({ target, loading }) => {
    const place = formatPlace(target.place);
    switch (loading?.kind) {
      case "loaded":
        return [fine("its pods run this configuration", `${loading.pods} pods say so in coredns_reload_version_info`)];
      case "refused":
        return [
          wrong(
            "CoreDNS refused the Corefile and goes on with an older one",
            `pod ${loading.pod}, ${loading.failures} failed reloads`,
            `kubectl -n ${target.workload.namespace} logs ${loading.pod}`,
          ),
        ];
      case "waiting":
        return [
          maybe(
            "not all pods run this configuration yet",
            `${loading.loaded} of ${loading.pods}`,
            "it takes up to two minutes; then isthmus dns install --restart",
          ),
        ];
      case "restart":
        return [
          maybe(
            "its pods read their file at the start alone",
            `${place}: ${loading.why}`,
            "isthmus dns install --restart, if they run since before it was written",
          ),
        ];
      default:
        return [];
    }
  });

/** A Corefile that is refused keeps CoreDNS on its last one, or from starting. */
export const corefileAccepted: Check = ({ status, corefile }) => {
  const { workload, version, configMaps } = status.found;
  const [first] = status.targets;
  if (workload.program !== "coredns" || !first) return [];
  const { importer } = configOf(first.target, configMaps);
  return refusals({ main: corefile, importer }, { version, defaultPort: workload.port }).map(
    ({ file, line, message }) =>
      wrong(
        "CoreDNS does not load its Corefile",
        `${file === "" ? "" : `${file}, `}line ${line}: ${message}`,
        "mend that line; CoreDNS goes on with the last one that it took",
      ),
  );
};

/** A readiness probe for a plugin that is not there: no pod is ready, and the Service answers nobody. */
export const readyThere: Check = ({ status, corefile }) => {
  const { workload, version } = status.found;
  const parsed = parseCorefile(corefile);
  if (workload.program !== "coredns" || workload.readiness?.path !== "/ready" || !parsed.ok) return [];
  const named = parsed.corefile.blocks.some(({ directives }) => directives.some(({ name }) => name.text === "ready"));
  if (named) return [];
  const evidence = `the readiness probe of ${workload.kind} ${workload.name} asks /ready, which the plugin of that name answers`;
  const can = !version || hasDirective("ready", version) !== false;
  return [
    wrong(
      "the Corefile has no `ready`, so no pod of the DNS becomes ready",
      evidence,
      can
        ? `${again} --complete, or a line "ready" in the main block`
        : "this version has no such plugin: let the probe ask /health",
    ),
  ];
};

export const dnsRuns: Check = ({ status: { found }, dnsPods, corefile }) => {
  const { workload } = found;
  const findings: Finding[] = [];
  if (dnsPods === 0) {
    const where = `${workload.kind} ${workload.namespace}/${workload.name}`;
    findings.push(
      wrong(
        "no pod of the cluster's DNS runs",
        where,
        `kubectl -n ${workload.namespace} describe ${workload.kind.toLowerCase()} ${workload.name}`,
      ),
    );
  }
  const parsed = parseCorefile(corefile);
  if (workload.program === "coredns" && parsed.ok && corefile !== "" && !mainBlock(parsed.corefile)) {
    findings.push(maybe("the Corefile has no block for all other names", `no "." in ${workload.corefile?.configMap}`));
  }
  return findings;
};

/** A policy may keep the cluster's DNS from the mesh's. Whether it does depends on labels of both ends. */
export const policies: Check = ({ policies, namespace, status: { found } }) =>
  policies.flatMap(({ metadata, spec }): readonly Finding[] => {
    const { podSelector = {}, policyTypes = ["Ingress"] } = (spec ?? {}) as {
      podSelector?: { matchLabels?: Labels };
      policyTypes?: readonly string[];
    };
    const place = `NetworkPolicy ${metadata.namespace}/${metadata.name}`;
    const everyPod = Object.keys(podSelector).length === 0;
    const ours = everyPod || Object.values(podSelector.matchLabels ?? {}).some((value) => value.startsWith("isthmus"));
    if (metadata.namespace === namespace && ours && policyTypes.includes("Ingress")) {
      return [
        maybe(
          "a policy may keep the cluster's DNS from the mesh's",
          place,
          `it must let ${found.workload.namespace} in to port 15053, UDP and TCP`,
        ),
      ];
    }
    const dns = everyPod || Object.values(podSelector.matchLabels ?? {}).some((value) => value === "kube-dns");
    if (metadata.namespace === found.workload.namespace && dns && policyTypes.includes("Egress")) {
      return [
        maybe(
          "a policy may keep the cluster's DNS from asking the mesh's",
          place,
          `it must let its pods out to ${namespace}, port 15053, UDP and TCP`,
        ),
      ];
    }
    return [];
  });
