import { buildZone, type Zone, type ZoneName } from "../dns/index.ts";
import type { MeshSettings } from "../model/index.ts";
import { type Hostname, parseHostname } from "../values/index.ts";

/** What the mesh answers for: names of other clusters, and the cluster's own domain. */
export function suffixesOf(settings: MeshSettings): readonly Hostname[] {
  return ["global", settings.clusterDomain].flatMap((suffix) => parseHostname(suffix) ?? []);
}

/** Names of the mesh to a zone. */
export function zoneOf(names: Iterable<ZoneName>, settings: MeshSettings): Zone {
  return buildZone({ names, suffixes: suffixesOf(settings), searches: ["global"] });
}
