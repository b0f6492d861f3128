import type { ServiceEntry } from "../resources/index.ts";
import { type Change, covers, type Hostname, isWildcard } from "../values/index.ts";
import { cached } from "./cached.ts";
import { checkGateways } from "./check-gateways.ts";
import { checkRoutes, targetsOf } from "./check-routes.ts";
import { checkSecrets } from "./check-secrets.ts";
import { checkRule, checkService } from "./check-services.ts";
import { type Finding, finding } from "./finding.ts";
import { type FindingBook, noted } from "./finding-book.ts";
import type { Mesh } from "./mesh.ts";
import { changedRuleHosts } from "./rules.ts";

type Facts = Omit<Mesh, "findings">;

/** Everything suspicious that takes two objects, or a whole mesh, to see: looked for again where something changed. */
export function checksAfter(
  book: FindingBook,
  news: {
    readonly mesh: Facts;
    readonly before: Pick<Mesh, "rules" | "virtualServices" | "gateways" | "workloads" | "secrets">;
    /** Hosts whose services changed. */
    readonly touched: ReadonlySet<Hostname>;
    readonly entries: ReadonlyArray<Change<string, ServiceEntry>>;
    /** What others found already. */
    readonly found: Iterable<readonly [string, readonly Finding[]]>;
  },
): FindingBook {
  const { mesh, before, touched } = news;
  const lists = new Map<string, readonly Finding[]>(news.found);
  for (const { key, after } of news.entries) lists.set(`entry/${key}`, after ? checkEntry(after) : []);
  const hosts = new Set(touched);
  for (const host of changedRuleHosts(before.rules, mesh.rules)) addCovered(hosts, host, mesh);
  for (const host of hosts) {
    const service = mesh.services.get(host);
    lists.set(`service/${host}`, service ? [...checkService(service), ...checkRule(mesh, service)] : []);
  }
  const sameGateways = before.gateways === mesh.gateways;
  if (!sameGateways) lists.set("gateways", checkGateways(mesh.gateways));
  if (!sameGateways || before.workloads !== mesh.workloads || before.secrets !== mesh.secrets)
    lists.set("secrets", checkSecrets(mesh));
  if (before.virtualServices !== mesh.virtualServices)
    for (const { namespace, name } of before.virtualServices) lists.set(`routes/${namespace}/${name}`, []);
  const gateways = cached(gatewayKeys, mesh.gateways, () => new Set(mesh.gateways.map((one) => one.key)));
  const sameRoutes = before.virtualServices === mesh.virtualServices && sameGateways;
  for (const routes of mesh.virtualServices)
    if (!sameRoutes || targetsOf(routes, mesh).some(({ host }) => hosts.has(host)))
      lists.set(`routes/${routes.namespace}/${routes.name}`, checkRoutes(mesh, routes, gateways));
  return noted(book, lists);
}

const gatewayKeys = new WeakMap<Mesh["gateways"], ReadonlySet<string>>();

/** Adds the hosts that a rule for `host` is about; the host itself also when nobody declares it. */
function addCovered(hosts: Set<Hostname>, host: Hostname, { services }: Pick<Mesh, "services">): void {
  hosts.add(host);
  if (!isWildcard(host)) return;
  for (const one of services.keys()) if (covers(host, one)) hosts.add(one);
}

function checkEntry({ spec, origin }: ServiceEntry): readonly Finding[] {
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
