import { byAge, compareText } from "./age.ts";
import { cached } from "./cached.ts";
import { hiddenFromSidecars } from "./egress.ts";
import { equalLists } from "./entry-stage.ts";
import type { Endpoint, Service, ServicePort } from "./service.ts";

const unions = new WeakMap<Service, Array<{ readonly list: readonly Service[]; readonly union: Service }>>();

/** Entries of one namespace for one host make one service together; else the older object wins, a Service before an entry. */
export function settle(list: readonly Service[]): {
  readonly kept: readonly Service[];
  readonly lost: readonly Service[];
} {
  const byNamespace = new Map<string, Service[]>();
  const lost: Service[] = [];
  const sorted = [...list].sort((a, b) => a.created - b.created || compareText(b.registry, a.registry) || byAge(a, b));
  for (const service of sorted) {
    const own = byNamespace.get(service.namespace);
    if (!own) byNamespace.set(service.namespace, [service]);
    else if (
      own[0]!.registry === service.registry &&
      own[0]!.resolution === service.resolution &&
      own[0]!.location === service.location
    )
      own.push(service);
    else lost.push(service);
  }
  const united = [...byNamespace.values()].map(unite);
  const kept: Service[] = [];
  let general = false;
  for (const service of united) {
    // Two that everybody sees cannot both be; one that only some see may stand beside it.
    if (service.visibility === "everyone" && general) lost.push(service);
    else kept.push(service);
    if (service.visibility === "everyone") general = true;
  }
  return { kept, lost };
}

function unite(list: readonly Service[]): Service {
  const oldest = list[0]!;
  if (list.length === 1) return oldest;
  const memory = cached(unions, oldest, () => []);
  const known = memory.find((one) => equalLists(one.list, list));
  if (known) return known.union;
  const ports = new Map<number, ServicePort>();
  const endpoints: Endpoint[] = [];
  for (const service of list) {
    for (const port of service.ports) if (!ports.has(port.number)) ports.set(port.number, port);
    endpoints.push(...service.endpoints);
  }
  // What one entry keeps behind an egress gateway no other makes a way around.
  const egress = list.find((one) => one.egress?.by === "annotation")?.egress ?? list.find((one) => one.egress)?.egress;
  const reached = egress?.by === "annotation" ? endpoints.map(hiddenFromSidecars) : endpoints;
  const union: Service = Object.freeze({
    ...oldest,
    addresses: Object.freeze([...new Set(list.flatMap((one) => one.addresses))]),
    ranges: Object.freeze(list.flatMap((one) => one.ranges)),
    ports: Object.freeze([...ports.values()]),
    endpoints: Object.freeze(reached),
    egress,
    subjectAltNames: Object.freeze([...new Set(list.flatMap((one) => one.subjectAltNames))]),
    origins: Object.freeze(list.flatMap((one) => one.origins)),
  });
  memory.length = Math.min(memory.length, 4);
  memory.unshift({ list, union });
  return union;
}
