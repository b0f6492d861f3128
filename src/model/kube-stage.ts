import type { EndpointSlice, Service as KubeService, Node } from "../resources/index.ts";
import { type Change, SortedMap } from "../values/index.ts";
import { compareText } from "./age.ts";
import { buildKubeService } from "./kube-services.ts";
import type { MeshSettings, Workload } from "./mesh.ts";
import { noLists, regrouped } from "./regrouped.ts";
import type { Service } from "./service.ts";

/** The cluster's own services, and what they are made from at hand. Keys are `namespace/name`, of machines the name. */
export interface KubeStage {
  readonly resources: SortedMap<string, KubeService>;
  readonly slices: SortedMap<string, readonly EndpointSlice[]>;
  readonly machines: SortedMap<string, Node>;
  readonly services: SortedMap<string, Service>;
}

export const noKube: KubeStage = {
  resources: SortedMap.empty(),
  slices: noLists(),
  machines: SortedMap.empty(),
  services: SortedMap.empty(),
};

interface KubeNews {
  readonly services: ReadonlyArray<Change<string, KubeService>>;
  readonly slices: ReadonlyArray<Change<string, EndpointSlice>>;
  readonly machines: ReadonlyArray<Change<string, Node>>;
  readonly workloads: ReadonlyArray<Change<string, Workload>>;
}

/** Makes anew the services that the news is about; the others stay the same objects. */
export function nextKube(
  before: KubeStage,
  {
    news,
    workloads,
    settings,
  }: {
    readonly news: KubeNews;
    readonly workloads: SortedMap<string, Workload>;
    readonly settings: MeshSettings;
  },
): KubeStage {
  if (Object.values(news).every((changes) => changes.length === 0)) return before;
  const resources = renamed(before.resources, news.services, keyOf);
  const machines = renamed(before.machines, news.machines, ({ metadata }) => metadata.name);
  const { lists: slices, touched } = regrouped(before.slices, {
    left: news.slices.flatMap((one) => owned(one.before)),
    joined: news.slices.flatMap((one) => owned(one.after)),
  });
  const stale = new Set(touched);
  for (const { before: old, after } of news.services) for (const one of [old, after]) if (one) stale.add(keyOf(one));
  addServing(stale, before, news);
  const made = new Map<string, Service | undefined>();
  for (const key of stale) {
    const service = resources.get(key);
    made.set(
      key,
      service &&
        buildKubeService(
          {
            service,
            slices: [...(slices.get(key) ?? [])].sort((a, b) => compareText(a.metadata.name, b.metadata.name)),
            workload: (one) => workloads.get(one),
            machine: (name) => machines.get(name),
          },
          settings,
        ),
    );
  }
  return { resources, slices, machines, services: before.services.with(made) };
}

const keyOf = ({ metadata }: KubeService) => `${metadata.namespace}/${metadata.name}`;
const sliceOwner = "kubernetes.io/service-name";

function owned(slice: EndpointSlice | undefined): ReadonlyArray<readonly [string, EndpointSlice]> {
  const owner = slice?.metadata.labels[sliceOwner];
  return slice && owner !== undefined ? [[`${slice.metadata.namespace}/${owner}`, slice]] : [];
}

/** A map by a key of our own after objects changed: first what is gone, so that a new object may take an old one's key. */
export function renamed<V>(
  before: SortedMap<string, V>,
  changes: ReadonlyArray<Change<string, V>>,
  keyOf: (value: V) => string,
): SortedMap<string, V> {
  const wanted = new Map<string, V | undefined>();
  for (const { before: old } of changes) if (old !== undefined) wanted.set(keyOf(old), undefined);
  for (const { after } of changes) if (after !== undefined) wanted.set(keyOf(after), after);
  return before.with(wanted);
}

/** Adds the services whose endpoints are of a Pod, or on a machine, that changed. */
function addServing(stale: Set<string>, { slices }: KubeStage, news: KubeNews): void {
  if (news.workloads.length === 0 && news.machines.length === 0) return;
  const workloads = new Set(news.workloads.map((one) => one.key));
  // Looking a name up is cheap, making a key for every endpoint is not.
  const names = new Set(news.workloads.map((one) => (one.after ?? one.before)!.name));
  const machines = new Set(news.machines.map((one) => (one.after ?? one.before)!.metadata.name));
  const concerns = ({ targetRef, nodeName }: EndpointSlice["endpoints"][number], namespace: string) =>
    (nodeName !== undefined && machines.has(nodeName)) ||
    (targetRef?.name !== undefined &&
      names.has(targetRef.name) &&
      workloads.has(`${targetRef.namespace ?? namespace}/${targetRef.name}`));
  slices.forEach((list, key) => {
    if (list.some(({ endpoints, metadata }) => endpoints.some((one) => concerns(one, metadata.namespace))))
      stale.add(key);
  });
}
