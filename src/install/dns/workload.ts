import type { KubeObject } from "../../kube/index.ts";
import { type Version, versionOfImage } from "./version.ts";

// What a Deployment or DaemonSet says of the DNS that it runs. Nothing of an object is trusted to be there.

/** A ConfigMap where a container sees it. */
export interface Mount {
  readonly dir: string;
  readonly configMap: string;
  /** File to key, where the volume names them; undefined: each key is a file. */
  readonly files: ReadonlyMap<string, string> | undefined;
  /** Kubernetes does not renew a file that is mounted by itself. */
  readonly fixed: boolean;
}

/** Where a text is: a key of a ConfigMap. */
export interface Place {
  readonly namespace: string;
  readonly configMap: string;
  readonly key: string;
}

export interface Workload {
  readonly kind: "Deployment" | "DaemonSet";
  readonly namespace: string;
  readonly name: string;
  readonly program: "coredns" | "kube-dns" | "node-cache";
  readonly image: string;
  readonly version: Version | undefined;
  readonly mounts: readonly Mount[];
  /** The Corefile as the program sees it. */
  readonly path: string;
  /** Where that text is kept; undefined when it comes from no ConfigMap. */
  readonly corefile: Place | undefined;
  /** The program's `-dns.port`. */
  readonly port: number;
  /** kube-dns's `--domain`: of the cluster's own services. */
  readonly domain: string | undefined;
  /** Of pods. */
  readonly selector: string;
  /** Path of the readiness probe, where it asks over HTTP. */
  readonly readiness: { readonly path: string; readonly port: string } | undefined;
}

interface Container {
  readonly name?: string;
  readonly image?: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly ports?: ReadonlyArray<{ readonly name?: string; readonly containerPort?: number }>;
  readonly volumeMounts?: ReadonlyArray<{
    readonly name?: string;
    readonly mountPath?: string;
    readonly subPath?: string;
  }>;
  readonly readinessProbe?: { readonly httpGet?: { readonly path?: string; readonly port?: string | number } };
}

interface ConfigMapSource {
  readonly name?: string;
  readonly items?: ReadonlyArray<{ readonly key: string; readonly path: string }>;
}

interface Volume {
  readonly name: string;
  readonly configMap?: ConfigMapSource;
  readonly projected?: { readonly sources?: ReadonlyArray<{ readonly configMap?: ConfigMapSource }> };
}

interface Spec {
  readonly selector?: { readonly matchLabels?: Readonly<Record<string, string>> };
  readonly template?: {
    readonly spec?: { readonly containers?: readonly Container[]; readonly volumes?: readonly Volume[] };
  };
}

/** Undefined for a workload that is no DNS known here. */
export function readWorkload(object: KubeObject): Workload | undefined {
  const { selector, template } = (object["spec"] ?? {}) as Spec;
  const { containers = [], volumes = [] } = template?.spec ?? {};
  for (const container of containers) {
    const program = programOf(container);
    if (!program) continue;
    const words = [...(container.command ?? []), ...(container.args ?? [])];
    const path = flagOf(words, program === "node-cache" ? "basecorefile" : "conf") ?? defaultPaths[program];
    const mounts = mountsOf(container, volumes);
    const namespace = object.metadata.namespace ?? "kube-system";
    const httpGet = container.readinessProbe?.httpGet;
    return {
      kind: object.kind === "DaemonSet" ? "DaemonSet" : "Deployment",
      namespace,
      name: object.metadata.name,
      program,
      image: container.image ?? "",
      version: program === "coredns" ? versionOfImage(container.image ?? "") : undefined,
      mounts,
      path,
      corefile: program === "kube-dns" ? undefined : placeOf(path, mounts, namespace),
      port: Number(flagOf(words, "dns.port") ?? flagOf(words, "p") ?? 53) || 53,
      domain: program === "kube-dns" ? flagOf(words, "domain")?.replace(/\.$/, "") : undefined,
      selector: Object.entries(selector?.matchLabels ?? {})
        .map(([label, value]) => `${label}=${value}`)
        .join(","),
      readiness: httpGet && {
        path: httpGet.path ?? "/",
        port: String(container.ports?.find(({ name }) => name === httpGet.port)?.containerPort ?? httpGet.port ?? ""),
      },
    };
  }
  return undefined;
}

const defaultPaths = { coredns: "/etc/coredns/Corefile", "node-cache": "/etc/coredns/Corefile.base", "kube-dns": "" };

function programOf({ name = "", image = "", command = [], args = [] }: Container): Workload["program"] | undefined {
  const base = image.replace(/@.*$/, "").replace(/^.*\//, "");
  if (base.includes("node-cache") || name === "node-cache") return "node-cache";
  if (base.includes("kube-dns") || name === "kubedns") return "kube-dns";
  const named = base.includes("coredns") || name === "coredns";
  return named || flagOf([...command, ...args], "conf") !== undefined ? "coredns" : undefined;
}

/** `-conf x`, `--conf x`, `-conf=x`: Go's flags. */
function flagOf(words: readonly string[], flag: string): string | undefined {
  for (const [at, word] of words.entries()) {
    const [, name, value] = /^--?([^=]+)(?:=(.*))?$/.exec(word) ?? [];
    if (name === flag) return value ?? words[at + 1];
  }
  return undefined;
}

function mountsOf({ volumeMounts = [] }: Container, volumes: readonly Volume[]): readonly Mount[] {
  return volumeMounts.flatMap(({ name, mountPath = "", subPath }) => {
    const volume = volumes.find((one) => one.name === name);
    const sources = [volume?.configMap, ...(volume?.projected?.sources ?? []).map(({ configMap }) => configMap)];
    return sources.flatMap((source): Mount[] => {
      if (!source?.name) return [];
      const files = source.items && new Map(source.items.map(({ key, path }) => [path, key]));
      if (subPath === undefined) return [{ dir: trimmed(mountPath), configMap: source.name, files, fixed: false }];
      // One file by itself: the mount's own path is its name.
      const key = files?.get(subPath) ?? subPath;
      const [dir, file] = split(mountPath);
      return [{ dir, configMap: source.name, files: new Map([[file, key]]), fixed: true }];
    });
  });
}

/** Which key of which ConfigMap a file of the container is. */
export function placeOf(path: string, mounts: readonly Mount[], namespace: string): Place | undefined {
  const [dir, file] = split(path);
  for (const mount of mounts) {
    const key = mount.dir === dir ? (mount.files ? mount.files.get(file) : file) : undefined;
    if (key !== undefined) return { namespace, configMap: mount.configMap, key };
  }
  return undefined;
}

/** Folder and name of a file. */
export function split(path: string): readonly [dir: string, file: string] {
  const at = path.lastIndexOf("/");
  return [trimmed(path.slice(0, at)), path.slice(at + 1)];
}

function trimmed(dir: string): string {
  return dir.replace(/\/+$/, "");
}
