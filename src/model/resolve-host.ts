import type { Hostname } from "../values/index.ts";
import type { MeshSettings } from "./mesh.ts";

/** A host without a dot is a Service of the object's own namespace; anything with a dot is meant as it stands. */
export function resolveHost(
  host: Hostname,
  namespace: string,
  settings: Pick<MeshSettings, "clusterDomain">,
): Hostname {
  return host.includes(".") ? host : (`${host}.${namespace}.svc.${settings.clusterDomain}` as Hostname);
}
