import type { VirtualService } from "../resources/index.ts";
import type { Hostname, Origin } from "../values/index.ts";
import { cached } from "./cached.ts";
import { type Finding, finding } from "./finding.ts";
import type { Mesh } from "./mesh.ts";
import { resolveHost } from "./resolve-host.ts";
import { ruleFor } from "./rules.ts";
import type { VirtualRoutes } from "./virtual-services.ts";

type Facts = Omit<Mesh, "findings">;

interface Target {
  readonly host: Hostname;
  readonly subset: string | undefined;
  readonly port: number | undefined;
}

const targets = new WeakMap<VirtualService["spec"], readonly Target[]>();

/** The hosts that routes lead to. */
export function targetsOf({ spec, namespace }: VirtualRoutes, mesh: Pick<Mesh, "settings">): readonly Target[] {
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

/** Whether what a VirtualService names is there. `gateways` are the keys of those that exist. */
export function checkRoutes(mesh: Facts, routes: VirtualRoutes, gateways: ReadonlySet<string>): readonly Finding[] {
  const found: Finding[] = [];
  const { origin, namespace } = routes;
  for (const gateway of routes.gateways)
    if (gateway !== "mesh" && !gateways.has(gateway))
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
