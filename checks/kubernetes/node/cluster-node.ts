import { join } from "node:path";
import { type Clock, explain, Failure, type Logger, type Scope } from "../../../src/base/index.ts";
import {
  type Collection,
  createKubeClient,
  type KubeAccess,
  type KubeObject,
  startReflector,
} from "../../../src/kube/index.ts";
import { kubeletListenPort, outsideAddresses, outsideIp } from "./addresses.ts";
import type { ContainerRun } from "./container-run.ts";
import { eventRecorder } from "./events.ts";
import type { ImageTable } from "./images.ts";
import { startKubeletApi } from "./kubelet-api.ts";
import { registerNode } from "./node-object.ts";
import type { NodeParts } from "./node-parts.ts";
import type { PodObject, Values } from "./pod-object.ts";
import { PodPlaces } from "./pod-place.ts";
import { PodWorker } from "./pod-worker.ts";
import { startProber } from "./prober.ts";
import { ServiceKeeper } from "./service-keeper.ts";
import type { EndpointSliceObject, ServiceObject } from "./services.ts";

export interface ClusterNodeOptions {
  readonly cluster: string;
  readonly index: number;
  readonly holders: { readonly router: number; readonly node: number };
  readonly access: KubeAccess;
  readonly table: ImageTable;
  readonly root: string;
  /** For logs, which stay. */
  readonly logs: string;
  /** For files of pods, which go with the enclosure. */
  readonly folder: string;
  /** The program that looks at pods. */
  readonly proberProgram: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly onLoadBalancers: (all: ReadonlyMap<string, string>) => void;
}

const core = (plural: string, kind: string): Collection => ({ group: "", version: "v1", plural, kind });

/** The node of one cluster: runs every pod that is there. */
export class ClusterNode {
  readonly #options: ClusterNodeOptions;
  readonly #parts: NodeParts;
  readonly #scope: Scope;
  readonly #workers = new Map<string, PodWorker>();
  /** Pods that nobody runs: unbound ones that are being bound, and those that ended before this node began. */
  readonly #binding = new Set<string>();
  readonly #configMaps = new Map<string, Values>();
  readonly #secrets = new Map<string, Values>();
  readonly #services: ServiceKeeper;

  constructor(options: ClusterNodeOptions, scope: Scope) {
    const { cluster, index, holders, access, clock, log } = options;
    this.#options = options;
    this.#scope = scope;
    const client = createKubeClient({ access, clock, env: {}, userAgent: "isthmus-test-node" }, scope);
    this.#parts = {
      ...options,
      nodeName: `${cluster}-node`,
      hostIp: outsideAddresses(index).node,
      client,
      places: new PodPlaces(holders, join(options.folder, cluster)),
      prober: startProber({ router: holders.router, program: options.proberProgram }, scope),
      values: (namespace) => ({
        configMap: (name) => this.#configMaps.get(`${namespace}/${name}`),
        secret: (name) => this.#secrets.get(`${namespace}/${name}`),
      }),
      logFolder: ({ metadata }) => join(options.logs, cluster, metadata.namespace, metadata.name),
      record: eventRecorder({ client, clock, node: `${cluster}-node`, log }),
    };
    this.#services = new ServiceKeeper({ ...options, router: holders.router, client });
    scope.defer(() => this.#services.close());
  }

  /** Resolves when the node is registered, its kubelet answers and the packet filter is as the cluster's Services are. */
  async start(): Promise<void> {
    const { index, clock } = this.#options;
    const { client, nodeName: name, hostIp: ip, log } = this.#parts;
    await startKubeletApi(
      { host: outsideIp, port: kubeletListenPort(index), clock, find: (...names) => this.find(...names) },
      this.#scope,
    );
    await registerNode({ client, name, ip, clock, log }, this.#scope);
    this.#follow(core("configmaps", "ConfigMap"), textValues, this.#configMaps, (key) => this.#valuesChanged(key));
    this.#follow(core("secrets", "Secret"), secretValues, this.#secrets, (key) => this.#valuesChanged(key));
    const served = () => this.#services.changed();
    this.#follow(
      core("services", "Service"),
      (object) => object as unknown as ServiceObject,
      this.#services.services,
      served,
    );
    const slices = { group: "discovery.k8s.io", version: "v1", plural: "endpointslices", kind: "EndpointSlice" };
    this.#follow(slices, (object) => object as unknown as EndpointSliceObject, this.#services.slices, served);
    this.#followPods();
    await this.#services.ready;
  }

  find(namespace: string, pod: string, container: string): ContainerRun | undefined {
    return this.#workers.get(`${namespace}/${pod}`)?.container(container === "" ? undefined : container);
  }

  #follow<T>(
    collection: Collection,
    read: (object: KubeObject) => T,
    into: Map<string, T>,
    changed: (key: string) => void,
  ): void {
    this.#reflect(collection, read, {
      set: (key, value) => {
        into.set(key, value);
        changed(key);
      },
      gone: (key) => {
        into.delete(key);
        changed(key);
      },
      known: () => into.keys(),
    });
  }

  #followPods(): void {
    const known = new Map<string, PodObject>();
    this.#reflect(core("pods", "Pod"), (object) => object as unknown as PodObject, {
      set: (key, pod) => {
        known.set(key, pod);
        this.#podChanged(key, pod);
      },
      gone: (key) => {
        known.delete(key);
        const worker = this.#workers.get(key);
        this.#workers.delete(key);
        // Nobody waits for a pod whose object is gone.
        void worker?.stop(1_000, false);
      },
      known: () => known.keys(),
    });
  }

  #reflect<T>(
    collection: Collection,
    read: (object: KubeObject) => T,
    take: { set(key: string, value: T): void; gone(key: string): void; known(): Iterable<string> },
  ): void {
    const { client, log, clock, random } = this.#parts;
    const sink = {
      listed: (all: ReadonlyMap<string, T>) => {
        for (const key of [...take.known()]) if (!all.has(key)) take.gone(key);
        for (const [key, value] of all) take.set(key, value);
        if (collection.plural === "services") this.#services.changed();
      },
      changed: (changes: readonly ({ kind: "set"; name: string; value: T } | { kind: "deleted"; name: string })[]) => {
        for (const change of changes) {
          if (change.kind === "set") take.set(change.name, change.value);
          else take.gone(change.name);
        }
      },
      health: (health: { readonly kind: string; readonly failure?: Failure }) => {
        if (health.failure)
          log.warn({ what: collection.plural, error: explain(health.failure) }, "the API server is away");
      },
    };
    startReflector({ client, collection, read, sink, clock, random }, this.#scope);
  }

  #podChanged(key: string, pod: PodObject): void {
    const { nodeName, schedulingGates } = pod.spec;
    const worker = this.#workers.get(key);
    if (worker && worker.pod.metadata.uid === pod.metadata.uid) {
      worker.update(pod);
      return;
    }
    if (worker) {
      // Another pod of its name: the object was deleted and made anew while nobody looked.
      this.#workers.delete(key);
      void worker.stop(1_000, false);
    }
    if (!nodeName) {
      if (!schedulingGates?.length && !pod.metadata.deletionTimestamp) void this.#bind(pod);
      return;
    }
    if (nodeName !== this.#parts.nodeName) return;
    if (pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed") return;
    const started = new PodWorker(this.#parts, pod);
    this.#workers.set(key, started);
    if (pod.metadata.deletionTimestamp) started.update(pod);
  }

  async #bind({ metadata: { name, namespace, uid } }: PodObject): Promise<void> {
    if (this.#binding.has(uid)) return;
    this.#binding.add(uid);
    const { client, nodeName, clock, log } = this.#parts;
    try {
      await client.json({
        method: "POST",
        path: `/api/v1/namespaces/${namespace}/pods/${name}/binding`,
        body: {
          apiVersion: "v1",
          kind: "Binding",
          metadata: { name, uid },
          target: { apiVersion: "v1", kind: "Node", name: nodeName },
        },
      });
    } catch (caught) {
      if (caught instanceof Failure && (caught.code === "kube/not-found" || caught.code === "kube/conflict")) return;
      log.warn({ pod: name, error: explain(caught) }, "a pod was not bound");
      clock.after(1_000, () => {
        this.#binding.delete(uid);
        if (!this.#scope.closed) void this.#bind({ metadata: { name, namespace, uid } } as PodObject);
      });
    }
  }

  #valuesChanged(key: string): void {
    const prefix = `${key.split("/")[0]}/`;
    for (const [name, worker] of this.#workers) if (name.startsWith(prefix)) worker.valuesChanged();
  }
}

function textValues(object: KubeObject): Values {
  const { data = {}, binaryData = {} } = object as {
    data?: Record<string, string>;
    binaryData?: Record<string, string>;
  };
  return new Map([
    ...Object.entries(data).map(([key, text]) => [key, Buffer.from(text, "utf8")] as const),
    ...Object.entries(binaryData).map(([key, text]) => [key, Buffer.from(text, "base64")] as const),
  ]);
}

function secretValues(object: KubeObject): Values {
  const { data = {} } = object as { data?: Record<string, string> };
  return new Map(Object.entries(data).map(([key, text]) => [key, Buffer.from(text, "base64")]));
}
