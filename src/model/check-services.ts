import { egressAnnotation } from "../resources/index.ts";
import { covers, selects } from "../values/index.ts";
import { cached } from "./cached.ts";
import { type Finding, finding } from "./finding.ts";
import type { Mesh } from "./mesh.ts";
import { type MergedRule, ruleFor } from "./rules.ts";
import { isGlobal, type Service } from "./service.ts";

type Facts = Pick<Mesh, "rules" | "settings">;

/** What one service's endpoints say about it. */
export function checkService(service: Service): readonly Finding[] {
  const origin = service.origins[0]!;
  if (service.registry !== "entry" || service.resolution === "passthrough") return [];
  const { egress } = service;
  if (egress?.problem && service.endpoints.every((one) => one.egress || one.network !== ""))
    return [
      finding("mesh/egress-gateway-away", {
        severity: "error",
        origin,
        message: `calls to "${service.hostname}" leave by egress gateway "${egress.gateway}", ${problems[egress.problem]}, so every one of them fails`,
        hint:
          egress.problem === "not-ready"
            ? "start its pods; nothing goes around it meanwhile"
            : `install it, or ${egress.by === "annotation" ? `name another in annotation ${egressAnnotation}` : "take it out of the endpoints"}`,
      }),
    ];
  if (service.endpoints.length === 0)
    return [
      finding("mesh/no-endpoints", {
        origin,
        message: `"${service.hostname}" has no endpoint, so every call to it fails`,
        hint: service.selector
          ? "no WorkloadEntry or Pod of the namespace carries the labels"
          : "list endpoints, or select workloads",
      }),
    ];
  if (service.endpoints.every((one) => one.network !== ""))
    return [
      finding("mesh/view-hides-endpoints", {
        origin,
        message: `every endpoint of "${service.hostname}" is on network "${service.endpoints[0]!.network}", which sidecars do not see`,
        hint: `write annotation ${egressAnnotation}: "true", add the egress gateway as an endpoint without network, or leave the network out`,
      }),
    ];
  return [];
}

const problems = {
  "no-service": "of which there is no Service",
  "no-port": "whose Service has no port 15443",
  "not-ready": "of which no pod is ready",
} as const;

const checkedRules = new WeakMap<MergedRule, WeakMap<Service, readonly Finding[]>>();

/** What the rules that clients follow say about a service. */
export function checkRule(mesh: Facts, service: Service): readonly Finding[] {
  if (mesh.rules.byNamespace.size === 0) return [];
  const found: Finding[] = [];
  // What a client of the service's own namespace follows, and one of each namespace with a rule that names the host.
  const rules = new Set<MergedRule>();
  const { systemNamespace } = mesh.settings;
  const general = ruleFor(mesh.rules, service, { namespace: service.namespace, systemNamespace });
  if (general) rules.add(general);
  for (const place of mesh.rules.byNamespace.values()) {
    const exact = place.exact.get(service.hostname);
    if (exact) rules.add(exact);
    for (const wild of place.wildcards) if (covers(wild.host, service.hostname)) rules.add(wild);
  }
  for (const rule of rules) {
    const byService = cached(checkedRules, rule, () => new WeakMap<Service, readonly Finding[]>());
    found.push(...cached(byService, service, () => ruleFindings(rule, service)));
  }
  return found;
}

function ruleFindings(rule: MergedRule, service: Service): readonly Finding[] {
  const origin = rule.origins[0]!;
  const found: Finding[] = [];
  if (isGlobal(service.hostname) && service.location === "internal") {
    const policies = [rule.policy, ...rule.subsets.map((subset) => subset.policy)];
    const modes = policies.flatMap((policy) => [
      policy?.tls?.mode,
      ...(policy?.portLevelSettings ?? []).map((one) => one.tls?.mode),
    ]);
    const off = modes.find((mode) => mode !== undefined && mode !== "ISTIO_MUTUAL");
    if (off)
      found.push(
        finding("mesh/mtls-off", {
          severity: "error",
          origin,
          message: `tls.mode "${off}" turns the mesh's mutual TLS off for "${service.hostname}", and a gateway takes nothing else`,
          hint: "remove tls from the rule, or write ISTIO_MUTUAL",
        }),
      );
  }
  if (rule.host !== service.hostname || service.endpoints.length === 0) return found;
  for (const subset of rule.subsets) {
    if (service.endpoints.some((one) => selects(subset.labels, one.labels))) continue;
    found.push(
      finding("mesh/subset-empty", {
        origin,
        message: `subset "${subset.name}" of "${service.hostname}" selects none of its ${service.endpoints.length} endpoints`,
        hint: `is any of them labelled ${JSON.stringify(subset.labels)}?`,
      }),
    );
  }
  return found;
}
