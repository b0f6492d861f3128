import type { VirtualService } from "../resources/index.ts";
import { covers, type Hostname, type Origin, selects } from "../values/index.ts";
import { cached } from "./cached.ts";
import { type Finding, finding } from "./finding.ts";
import type { GatewayServer } from "./gateways.ts";
import type { MeshInput } from "./input.ts";
import type { Mesh } from "./mesh.ts";
import { resolveHost } from "./resolve-host.ts";
import { type MergedRule, ruleFor } from "./rules.ts";
import { isGlobal, type Service } from "./service.ts";
import type { VirtualRoutes } from "./virtual-services.ts";

type Facts = Omit<Mesh, "findings">;

/** Everything suspicious that takes two objects, or a whole mesh, to see. */
export function checkMesh(mesh: Facts, view: MeshInput): readonly Finding[] {
  const findings: Finding[] = [];
  for (const entry of view.ServiceEntry.values())
    findings.push(...cached(checkedEntries, entry, () => checkEntry(entry)));
  for (const service of mesh.services.values()) {
    findings.push(...cached(checkedServices, service, () => checkService(service)));
    findings.push(...checkRule(mesh, service));
  }
  for (const routes of mesh.virtualServices) findings.push(...checkRoutes(mesh, routes));
  findings.push(...checkGateways(mesh.gateways));
  return findings;
}

type Entry = MeshInput["ServiceEntry"] extends ReadonlyMap<string, infer E> ? E : never;
const checkedEntries = new WeakMap<Entry, readonly Finding[]>();

function checkEntry({ spec, origin }: Entry): readonly Finding[] {
  const known = new Set(spec.ports.map((port) => port.name));
  const unknown = new Set(spec.endpoints.flatMap((one) => Object.keys(one.ports).filter((name) => !known.has(name))));
  return [...unknown].map((name) =>
    finding("mesh/port-name-unknown", {
      origin,
      message: `an endpoint maps port "${name}", which is no port of the entry, so it has no effect`,
      hint: `the entry's ports are ${[...known].map((port) => `"${port}"`).join(", ") || "none"}`,
    }),
  );
}

const checkedServices = new WeakMap<Service, readonly Finding[]>();

/** What one service's endpoints say about it. */
function checkService(service: Service): readonly Finding[] {
  const origin = service.origins[0]!;
  if (service.registry !== "entry" || service.resolution === "passthrough") return [];
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
        hint: "add an endpoint without network, such as the egress gateway, or leave the network out",
      }),
    ];
  return [];
}

const checkedRules = new WeakMap<MergedRule, WeakMap<Service, readonly Finding[]>>();

function checkRule(mesh: Facts, service: Service): readonly Finding[] {
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

interface Target {
  readonly host: Hostname;
  readonly subset: string | undefined;
  readonly port: number | undefined;
}

const targets = new WeakMap<VirtualService["spec"], readonly Target[]>();

function targetsOf({ spec, namespace }: VirtualRoutes, mesh: Facts): readonly Target[] {
  return cached(targets, spec, () => {
    const all = [
      ...spec.http.flatMap((rule) => [
        ...rule.route.map((one) => one.destination),
        ...(rule.mirror ? [rule.mirror] : []),
        ...rule.mirrors.map((one) => one.destination),
      ]),
      ...spec.tcp.flatMap((rule) => rule.route.map((one) => one.destination)),
      ...spec.tls.flatMap((rule) => rule.route.map((one) => one.destination)),
    ];
    const seen = new Map<string, Target>();
    for (const { host, subset, port } of all) {
      const resolved = resolveHost(host, namespace, mesh.settings);
      seen.set(`${resolved} ${subset} ${port?.number}`, { host: resolved, subset, port: port?.number });
    }
    return [...seen.values()];
  });
}

function checkRoutes(mesh: Facts, routes: VirtualRoutes): readonly Finding[] {
  const found: Finding[] = [];
  const { origin, namespace } = routes;
  const known = new Set(mesh.gateways.map((one) => one.key));
  for (const gateway of routes.gateways)
    if (gateway !== "mesh" && !known.has(gateway))
      found.push(
        finding("mesh/gateway-unknown", {
          origin,
          message: `Gateway "${gateway}" does not exist, so these routes are not used there`,
          hint: "a Gateway of another namespace is named as namespace/name",
        }),
      );
  for (const { host, subset, port } of targetsOf(routes, mesh)) {
    const service = mesh.services.get(host);
    if (!service) {
      found.push(unknownDestination(origin, host));
      continue;
    }
    if (port !== undefined && !service.ports.some((one) => one.number === port))
      found.push(
        finding("mesh/port-unknown", {
          origin,
          message: `"${host}" has no port ${port}`,
          hint: `it has ${service.ports.map((one) => one.number).join(", ") || "none"}`,
        }),
      );
    if (subset === undefined) continue;
    const { systemNamespace } = mesh.settings;
    const subsets = ruleFor(mesh.rules, service, { namespace, systemNamespace })?.subsets ?? [];
    if (!subsets.some((one) => one.name === subset))
      found.push(
        finding("mesh/subset-unknown", {
          severity: "error",
          origin,
          message: `no DestinationRule defines subset "${subset}" of "${host}" for namespace "${namespace}", so calls routed to it fail`,
          hint:
            subsets.length > 0
              ? `known are ${subsets.map((one) => `"${one.name}"`).join(", ")}`
              : "write a DestinationRule with that subset",
        }),
      );
  }
  return found;
}

function unknownDestination(origin: Origin, host: Hostname): Finding {
  return finding("mesh/destination-unknown", {
    severity: "error",
    origin,
    message: `nobody declares "${host}", so calls routed to it fail`,
    hint: host.includes(".svc.")
      ? "is the name right? a short name is of the VirtualService's own namespace"
      : "write the full name of the host",
  });
}

/** Two Gateways that want the same host on the same port of the same workload. */
function checkGateways(servers: readonly GatewayServer[]): readonly Finding[] {
  const found: Finding[] = [];
  const seen: GatewayServer[] = [];
  for (const one of servers) {
    const { server, origin } = one;
    const mode = server.tls?.mode;
    if (Object.keys(one.selector).length === 0)
      found.push(
        finding("mesh/gateway-unsupported", {
          origin,
          message: "the Gateway selects no workload, so nobody runs it",
          hint: "write selector labels, such as istio: ingressgateway",
        }),
      );
    if ((mode === "SIMPLE" || mode === "MUTUAL" || mode === "OPTIONAL_MUTUAL") && !hasCertificate(server.tls))
      found.push(
        finding("mesh/certificate-missing", {
          severity: "error",
          origin,
          message: `port ${server.port.number} opens TLS but names no certificate`,
          hint: "write tls.credentialName, or tls.serverCertificate and tls.privateKey",
        }),
      );
    const other = seen.find((older) => older.key !== one.key && clash(older, one));
    if (other)
      found.push(
        finding("mesh/gateway-duplicate", {
          origin,
          message: `port ${server.port.number} is served for these hosts by Gateway "${other.key}" already, which is older`,
          hint:
            server.port.number === 15443
              ? "no Gateway for port 15443 has to be made by hand; delete this one"
              : "give the Gateways different hosts, or different ports",
        }),
      );
    seen.push(one);
  }
  return found;
}

function hasCertificate(tls: GatewayServer["server"]["tls"]): boolean {
  return (
    tls?.credentialName !== undefined ||
    (tls?.credentialNames.length ?? 0) > 0 ||
    (tls?.serverCertificate !== undefined && tls.privateKey !== undefined)
  );
}

function clash(a: GatewayServer, b: GatewayServer): boolean {
  if (a.server.port.number !== b.server.port.number) return false;
  if (!selects(a.selector, b.selector) && !selects(b.selector, a.selector)) return false;
  const plain = (one: GatewayServer) => one.server.tls === undefined;
  // Plain HTTP servers share a port by the Host header; only what is chosen by SNI can clash.
  if (plain(a) && plain(b)) return false;
  return a.server.hosts.some((left) =>
    b.server.hosts.some(
      (right) =>
        left.host === "*" ||
        right.host === "*" ||
        covers(left.host as Hostname, right.host as Hostname) ||
        covers(right.host as Hostname, left.host as Hostname),
    ),
  );
}
