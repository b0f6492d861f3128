import { fromBinary } from "@bufbuild/protobuf";
import type { Received, Refusal } from "../../ads/index.ts";
import { Cell } from "../../base/index.ts";
import { buildZone, emptyZone, type Zone, type ZoneName } from "../../dns/index.ts";
import { NameTableSchema } from "../../proto/gen/isthmus/nds/v1/nds_pb.js";
import { type Hostname, type Ip, parseHostname, parseIp } from "../../values/index.ts";

/** What a workload's own resolver answers for: names of other clusters, and the cluster's own services. */
export function suffixesOf(clusterDomain: Hostname): readonly Hostname[] {
  return ["global" as Hostname, clusterDomain];
}

/** The names that the control plane told, as a zone for the workload's own resolver. The last one told stays. */
export class Names {
  readonly zone: Cell<Zone>;
  readonly #suffixes: readonly Hostname[];
  readonly #searches: readonly string[];
  /** By resource. */
  readonly #told = new Map<string, { readonly names: readonly ZoneName[]; readonly received: Received }>();
  #serial = 0;

  constructor(options: { readonly suffixes: readonly Hostname[]; readonly searches: readonly string[] }) {
    this.#suffixes = options.suffixes;
    this.#searches = options.searches;
    this.zone = new Cell(emptyZone(options.suffixes));
  }

  /** The addresses of a name, for callers that name their destination; empty when it is not ours. */
  addressesOf(name: string): readonly Ip[] {
    const sets = this.zone.value.exact.get(name.toLowerCase().replace(/\.$/, ""))?.sets;
    return [sets?.A, sets?.AAAA].flatMap((set) => (set && "addresses" in set ? set.addresses : []));
  }

  /** Everything told and taken, as it came. */
  dump(): readonly Received[] {
    return [...this.#told.values()].map(({ received }) => received);
  }

  /** Takes what changed and drops what was removed. What it cannot read is refused, and its last good value stays. */
  apply(updated: readonly Received[], removed: readonly string[]): readonly Refusal[] {
    const refusals: Refusal[] = [];
    for (const name of removed) this.#told.delete(name);
    for (const received of updated) {
      const { name, bytes } = received;
      const read = readNames(bytes);
      if (typeof read === "string") refusals.push({ name, reason: read });
      else this.#told.set(name, { names: read, received });
    }
    this.#serial += 1;
    this.zone.set(
      buildZone({
        names: [...this.#told.values()].flatMap(({ names }) => names),
        suffixes: this.#suffixes,
        searches: this.#searches,
        serial: this.#serial,
      }),
    );
    return refusals;
  }
}

/** An encoded name table to names, or why it is none. */
function readNames(bytes: Uint8Array): readonly ZoneName[] | string {
  try {
    const { table } = fromBinary(NameTableSchema, bytes);
    const names: ZoneName[] = [];
    for (const [host, info] of Object.entries(table)) {
      const addresses = info.ips.map((text) => parseIp(text));
      const wrong = info.ips[addresses.indexOf(undefined)];
      if (wrong !== undefined) return `"${host}" has address "${wrong}", which is none`;
      for (const text of [host, ...info.altHosts]) {
        const name = parseHostname(text);
        if (!name) return `"${text}" is no host name`;
        names.push({ name, addresses: addresses as readonly Ip[] });
      }
    }
    return names;
  } catch (caught) {
    return `not a name table: ${(caught as Error).message}`;
  }
}
