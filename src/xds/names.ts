import { cached, type Mesh, type NameRecord, namesFor } from "../model/index.ts";
import { NameTableSchema } from "../proto/gen/isthmus/nds/v1/nds_pb.js";
import type { Versioned } from "../proto/index.ts";
import { versioned } from "./encode.ts";

const byRecord = new WeakMap<NameRecord, Versioned>();
const byMesh = new WeakMap<Mesh, Map<string, ReadonlyMap<string, Versioned>>>();

/** Names for the workload's own resolver: one resource a host name, so that a change sends that name alone. */
export function nameTables(mesh: Mesh, namespace: string): ReadonlyMap<string, Versioned> {
  const byNamespace = cached(byMesh, mesh, () => new Map<string, ReadonlyMap<string, Versioned>>());
  return cached(byNamespace, namespace, () => {
    const tables = new Map<string, Versioned>();
    for (const record of namesFor(mesh, namespace))
      tables.set(
        record.name,
        cached(byRecord, record, () => tableOf(record)),
      );
    return tables;
  });
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
