import { Failure } from "../../base/index.ts";
import type { KubeObject } from "../../kube/index.ts";
import type { Ip } from "../../values/index.ts";
import { type ClusterDns, configData, dataOf, dnsNamespace } from "./cluster-dns.ts";
import type { Importer } from "./corefile.ts";
import { type CorednsForm, type Form, formOf } from "./forms.ts";
import { importerOf, serverFile } from "./imports.ts";
import type { Version } from "./version.ts";
import type { Place, Workload } from "./workload.ts";

/** One text in a ConfigMap that is to say where the mesh's names are. */
export type Target =
  | {
      readonly kind: "corefile";
      readonly place: Place;
      readonly whose: "dns" | "node-local";
      readonly workload: Workload;
      readonly form: CorednsForm;
      readonly version: Version | undefined;
    }
  /** A file of our own that the Corefile imports. */
  | {
      readonly kind: "server-file";
      readonly place: Place;
      readonly path: string;
      readonly whose: "dns";
      readonly workload: Workload;
      readonly form: CorednsForm;
      readonly version: Version | undefined;
    }
  /** Of kube-dns, which a node's cache reads as well. */
  | {
      readonly kind: "stub-domains";
      readonly place: Place;
      readonly whose: "dns" | "node-local";
      readonly workload: Workload;
    };

export interface TargetWish {
  /** Instead of what the version says. */
  readonly form?: Form | undefined;
  /** Instead of what image and metrics say. */
  readonly version?: Version | undefined;
  /** The cache on each node as well. */
  readonly nodeLocal: boolean;
}

const stubDomains: Place = { namespace: dnsNamespace, configMap: "kube-dns", key: "stubDomains" };

/** Where to write, from what was found. Throws `clusterdns/version-unknown` and `clusterdns/no-config-map`. */
export function targetsOf(found: ClusterDns, wish: TargetWish): readonly Target[] {
  const { workload, nodeLocal } = found;
  const targets: Target[] = [];
  const kubeDns = wish.form === undefined ? workload.program === "kube-dns" : wish.form === "kube-dns";
  if (kubeDns) targets.push({ kind: "stub-domains", place: stubDomains, whose: "dns", workload });
  else targets.push(corednsTarget(found, wish));
  if (!nodeLocal || !wish.nodeLocal) return targets;
  // It takes the stub domains of kube-dns over by itself, where it sees them.
  const reads = nodeLocal.mounts.some(({ configMap }) => configMap === stubDomains.configMap);
  if (reads) {
    if (!kubeDns) targets.push({ kind: "stub-domains", place: stubDomains, whose: "node-local", workload: nodeLocal });
  } else if (nodeLocal.corefile) {
    const form = { form: "coredns-after-1.4.0", version: undefined } as const;
    targets.push({ kind: "corefile", place: nodeLocal.corefile, whose: "node-local", workload: nodeLocal, ...form });
  }
  return targets;
}

function corednsTarget({ workload, version: seen, configMaps }: ClusterDns, wish: TargetWish): Target {
  const version = wish.version ?? seen;
  const form = wish.form && wish.form !== "kube-dns" ? wish.form : version && formOf(version);
  const where = `${workload.kind} ${workload.namespace}/${workload.name}`;
  if (!form) {
    throw new Failure("clusterdns/version-unknown", `which CoreDNS is the image "${workload.image}" of ${where}?`, {
      hint: "neither its tag nor its metrics say so: name it with --coredns-version, or the form with --form",
    });
  }
  if (!workload.corefile) {
    throw new Failure("clusterdns/no-config-map", `${where} reads "${workload.path}", which comes from no ConfigMap`, {
      hint: "add the block of `isthmus dns manifest` to that file by hand",
    });
  }
  const common = { whose: "dns", workload, form, version } as const;
  const main = dataOf(configMaps.get(workload.corefile.configMap))[workload.corefile.key];
  const file = main === undefined ? undefined : serverFile(main, workload);
  if (file) return { kind: "server-file", ...file, ...common };
  return { kind: "corefile", place: workload.corefile, ...common };
}

/** The ConfigMaps, with one of them as it is now. */
export function withObject(
  configMaps: ReadonlyMap<string, KubeObject>,
  name: string,
  object: KubeObject | undefined,
): ReadonlyMap<string, KubeObject> {
  const all = new Map(configMaps);
  if (object) all.set(name, object);
  else all.delete(name);
  return all;
}

/** The main Corefile of a target's program and what it imports, as they stand in the ConfigMaps. */
export function configOf(
  { workload }: Target,
  configMaps: ReadonlyMap<string, KubeObject>,
): { readonly main: string | undefined; readonly importer: Importer } {
  const main = workload.corefile && dataOf(configMaps.get(workload.corefile.configMap))[workload.corefile.key];
  return { main, importer: importerOf(workload, configData(configMaps)) };
}

export function formatPlace({ namespace, configMap, key }: Place): string {
  return `ConfigMap ${namespace}/${configMap}, key ${key}`;
}

/** Addresses as a person reads them. */
export function formatIps(ips: readonly Ip[] | readonly string[]): string {
  return ips.join(", ");
}
