import { isDeepStrictEqual } from "node:util";
import { initContainer } from "./init-container.ts";
import { mergeOwnProxy } from "./own-proxy.ts";
import type { ContainerJson, Json, PodJson, PodSpecJson } from "./pod.ts";
import { rewriteProbes } from "./probes.ts";
import { initName, proxyContainer, proxyName, proxyUid, proxyVolumes } from "./proxy-container.ts";
import { hasNativeSidecars, type ServerVersion } from "./server-version.ts";
import type { InjectionSettings } from "./settings.ts";
import { shown } from "./shape.ts";
import { type PodWishes, readWishes } from "./wishes.ts";

/** What is known of a pod from elsewhere than itself. */
export interface PodFacts {
  /** Of the API server; undefined while it is not known. */
  readonly serverVersion: ServerVersion | undefined;
  /** What the pod is of, such as its Deployment's name; undefined to go by its owner. */
  readonly workload?: string;
}

export type Injection =
  | { readonly outcome: "injected"; readonly pod: PodJson; readonly warnings: readonly string[] }
  /** It has a proxy already. */
  | { readonly outcome: "already" }
  /** Its annotations or its own containers ask for what cannot be. */
  | { readonly outcome: "refused"; readonly problems: readonly string[] };

/** What injection wrote into a pod, so that it is not written twice. */
export const statusKey = "sidecar.istio.io/status";

/** Ports on which the proxy and its agent listen in the pod. */
const takenPorts = [15000, 15001, 15006, 15021, 15053];

/** The pod with a proxy beside its containers. The pod that comes in is not changed. */
export function inject(pod: PodJson, settings: InjectionSettings, facts: PodFacts): Injection {
  const { metadata = {}, spec = {} } = pod;
  const { annotations = {} } = metadata;
  const own = ownProxyOf(spec);
  if (annotations[statusKey] !== undefined && own !== undefined) return { outcome: "already" };
  const reading = readWishes(annotations, settings);
  const problems: string[] = reading.outcome === "wrong" ? [...reading.problems] : [];
  if ([...(spec.initContainers ?? []), ...(spec.containers ?? [])].some(({ name }) => name === initName))
    problems.push(`the pod has a container "${initName}" of its own; rename it`);
  for (const volume of proxyVolumes) {
    const same = (spec.volumes ?? []).find(({ name }) => name === volume["name"]);
    if (same && !isDeepStrictEqual(same, volume))
      problems.push(`the pod has a volume ${shown(same["name"])} of its own; rename it`);
  }
  if (reading.outcome === "wrong") return { outcome: "refused", problems };
  const { wishes, warnings } = reading;
  const native = nativeOf(wishes, settings, facts, (problem) => problems.push(problem));
  const others = {
    containers: (spec.containers ?? []).filter(({ name }) => name !== proxyName),
    initContainers: (spec.initContainers ?? []).filter(({ name }) => name !== proxyName),
  };
  const rewritten =
    wishes.rewriteProbes && wishes.statusPort !== 0
      ? rewriteProbes(others, { statusPort: wishes.statusPort, proxyFirst: native })
      : { ...others, probers: {} };
  const ours = proxyContainer({ settings, wishes, probers: rewritten.probers, native });
  const proxy = own ? mergeOwnProxy(ours, own, (problem) => problems.push(problem)) : ours;
  if (problems.length > 0) return { outcome: "refused", problems };
  const init = wishes.interception === "NONE" ? [] : [initContainer({ settings, wishes })];
  const injected: PodSpecJson = {
    ...spec,
    ...withInits(spec, native ? [...init, proxy, ...rewritten.initContainers] : [...rewritten.initContainers, ...init]),
    containers: native
      ? rewritten.containers
      : wishes.holdApplication
        ? [proxy, ...rewritten.containers]
        : [...rewritten.containers, proxy],
    volumes: [...byName(spec.volumes, [...proxyVolumes, ...wishes.volumes])],
    ...dnsConfig(spec, settings),
    securityContext: { fsGroup: proxyUid, ...withoutNulls(spec.securityContext) },
    ...pullSecrets(spec, settings),
  };
  return {
    outcome: "injected",
    pod: {
      ...pod,
      metadata: {
        ...metadata,
        labels: labelsOf(pod, settings, facts),
        annotations: {
          ...annotations,
          ...annotationsOf({ pod, settings, wishes, native, first: rewritten.containers[0] }),
        },
      },
      spec: injected,
    },
    warnings: [...warnings, ...advice(spec)],
  };
}

function ownProxyOf({ containers = [], initContainers = [] }: PodSpecJson): ContainerJson | undefined {
  return [...containers, ...initContainers].find(({ name }) => name === proxyName);
}

function nativeOf(
  wishes: PodWishes,
  settings: InjectionSettings,
  { serverVersion }: PodFacts,
  complain: (problem: string) => void,
): boolean {
  const able = serverVersion === undefined ? undefined : hasNativeSidecars(serverVersion);
  const asked =
    wishes.nativeSidecar ?? (settings.nativeSidecars === "auto" ? undefined : settings.nativeSidecars === "always");
  // An older server would drop what makes it one, and the pod would wait for ever for an init container that stays.
  if (asked === true && able === false)
    complain(
      `a native sidecar wants Kubernetes 1.29 or newer, and this is ${serverVersion!.major}.${serverVersion!.minor}; leave sidecar.istio.io/nativeSidecar out`,
    );
  return asked ?? able ?? false;
}

function withInits(spec: PodSpecJson, initContainers: readonly ContainerJson[]): Pick<PodSpecJson, "initContainers"> {
  return initContainers.length === 0 && spec.initContainers === undefined ? {} : { initContainers };
}

/** Those that are there, and those of `more` whose name is not among them. */
function byName(there: readonly Json[] = [], more: readonly Json[]): readonly Json[] {
  const names = new Set(there.map(({ name }) => name));
  return [...there, ...more.filter(({ name }) => !names.has(name))];
}

/** What the pod searches itself stays in front. */
function dnsConfig(
  { dnsConfig: own }: PodSpecJson,
  { searchDomains }: InjectionSettings,
): Pick<PodSpecJson, "dnsConfig"> {
  if (searchDomains.length === 0) return own ? { dnsConfig: own } : {};
  return { dnsConfig: { ...own, searches: [...new Set([...(own?.searches ?? []), ...searchDomains])] } };
}

function pullSecrets(
  { imagePullSecrets }: PodSpecJson,
  settings: InjectionSettings,
): Pick<PodSpecJson, "imagePullSecrets"> {
  const ours = settings.imagePullSecrets.map((name) => ({ name }));
  return ours.length === 0 ? {} : { imagePullSecrets: byName(imagePullSecrets, ours) };
}

function withoutNulls(json: Json = {}): Json {
  return Object.fromEntries(Object.entries(json).filter(([, value]) => value !== null));
}

function labelsOf(pod: PodJson, settings: InjectionSettings, facts: PodFacts): Readonly<Record<string, string>> {
  const { labels = {} } = pod.metadata ?? {};
  const name = labels["app.kubernetes.io/name"] ?? labels["app"] ?? facts.workload ?? ownerOf(pod);
  const version = labels["app.kubernetes.io/version"] ?? labels["version"] ?? "latest";
  return {
    "security.istio.io/tlsMode": "istio",
    ...(name === undefined ? {} : { "service.istio.io/canonical-name": labelValue(name) }),
    "service.istio.io/canonical-revision": version,
    "istio.io/rev": settings.revision,
    ...labels,
  };
}

/** What made the pod; of a ReplicaSet, the Deployment, whose name it begins with. */
function ownerOf({ metadata = {} }: PodJson): string | undefined {
  const owners = metadata["ownerReferences"];
  const owner = (Array.isArray(owners) ? owners : []).find((one) => (one as Json | null)?.["controller"] === true) as
    | Json
    | undefined;
  const [name, kind] = [owner?.["name"], owner?.["kind"]];
  if (typeof name !== "string") return metadata.name;
  const hash = metadata.labels?.["pod-template-hash"];
  return kind === "ReplicaSet" && hash !== undefined && name.endsWith(`-${hash}`)
    ? name.slice(0, -hash.length - 1)
    : name;
}

function labelValue(name: string): string {
  return name.slice(0, 63).replace(/[^A-Za-z0-9]+$/, "");
}

function annotationsOf(parts: {
  readonly pod: PodJson;
  readonly settings: InjectionSettings;
  readonly wishes: PodWishes;
  readonly native: boolean;
  readonly first: ContainerJson | undefined;
}): Readonly<Record<string, string>> {
  const { pod, settings, wishes, native, first } = parts;
  const inits = wishes.interception === "NONE" ? [] : [initName];
  const status = {
    revision: settings.revision,
    dataPlane: wishes.dataPlane,
    initContainers: native ? [...inits, proxyName] : inits,
    containers: native ? [] : [proxyName],
    volumes: [...proxyVolumes, ...wishes.volumes].map(({ name }) => name),
    imagePullSecrets: settings.imagePullSecrets,
  };
  const annotations = pod.metadata?.annotations ?? {};
  // Who says `kubectl exec` or `logs` without a container means the application.
  const named = ["kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container"];
  const defaults = first?.name === undefined ? [] : named.filter((name) => annotations[name] === undefined);
  return { ...Object.fromEntries(defaults.map((name) => [name, first!.name!])), [statusKey]: JSON.stringify(status) };
}

/** What works, and most likely not as its author thinks. */
function advice(spec: PodSpecJson): readonly string[] {
  const said: string[] = [];
  const containers = (spec.containers ?? []).filter(({ name }) => name !== proxyName);
  for (const { name, ports = [], securityContext } of containers) {
    for (const { containerPort } of ports)
      if (containerPort !== undefined && takenPorts.includes(containerPort))
        said.push(
          `container ${shown(name)}: port ${containerPort} is the proxy's; one of the two will not be able to listen`,
        );
    const user = securityContext?.["runAsUser"] ?? spec.securityContext?.["runAsUser"];
    if (user === proxyUid)
      said.push(
        `container ${shown(name)}: runs as user ${proxyUid}, which is the proxy's; what it sends goes past the mesh`,
      );
  }
  return said;
}
