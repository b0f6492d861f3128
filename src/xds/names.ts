import { cached, type Mesh, type NameRecord, namesChanged, namesOf, type Service } from "../model/index.ts";
import { NameTableSchema } from "../proto/gen/isthmus/nds/v1/nds_pb.js";
import type { Versioned } from "../proto/index.ts";
import { type Hostname, SortedMap } from "../values/index.ts";
import { versioned } from "./encode.ts";

/** What one namespace sees of a mesh, and the tables made of it. */
interface Seen {
  readonly mesh: Mesh;
  readonly services: SortedMap<Hostname, Service>;
}

export type NameTables = SortedMap<Hostname, Versioned>;

const byRecord = new WeakMap<NameRecord, Versioned>();
const byMesh = new WeakMap<Mesh, Map<Seen["services"], NameTables>>();

/**
 * Names for the workload's own resolver: one resource a host name, so that a change sends that name alone. Whoever
 * sees the same services shares them.
 */
export function nameTables(now: Seen, before: (Seen & { readonly names: NameTables }) | undefined): NameTables {
  const known = cached(byMesh, now.mesh, () => new Map<Seen["services"], NameTables>());
  return cached(known, now.services, () => {
    const hosts = before ? namesChanged(before.mesh, now.mesh) : now.services.keys();
    const names = new Set<Hostname>();
    for (const host of hosts)
      for (const { mesh, services } of before ? [before, now] : [now]) {
        const service = services.get(host);
        if (service) for (const { name } of namesOf(mesh, service)) names.add(name);
      }
    return (before?.names ?? SortedMap.empty<Hostname, Versioned>()).with(
      [...names].map((name) => {
        const record = recordNamed(now, name);
        return [name, record && cached(byRecord, record, () => tableOf(record))];
      }),
    );
  });
}

/** A name is its service's own, or that of an endpoint of a service above it: then the last one counts. */
function recordNamed({ mesh, services }: Seen, name: Hostname): NameRecord | undefined {
  let [found, holder]: [NameRecord | undefined, string] = [undefined, ""];
  for (let host: string = name; host !== ""; host = above(host)) {
    const service = host >= holder ? services.get(host as Hostname) : undefined;
    const record = service && namesOf(mesh, service).findLast((one) => one.name === name);
    if (record) [found, holder] = [record, host];
  }
  return found;
}

function above(host: string): string {
  const dot = host.indexOf(".");
  return dot === -1 ? "" : host.slice(dot + 1);
}

function tableOf({ name, addresses, service }: NameRecord): Versioned {
  return versioned(NameTableSchema, {
    name,
    origins: service.origins,
    message: {
      table: {
        [name]: {
          ips: [...addresses],
          registry: service.registry === "kubernetes" ? "Kubernetes" : "External",
          shortname: service.name,
          namespace: service.namespace,
        },
      },
    },
  });
}
