import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { certificateValue } from "../../scenarios/certificates.ts";
import { profileObjects } from "../../src/lab/profile.ts";
import { Addresses, endpointSlices, podObject, type RunningPod, serviceObject } from "../../src/lab/runtime-objects.ts";
import { labVariables, substitute } from "../../src/lab/variables.ts";
import { wantedPods } from "../../src/lab/workloads.ts";
import { buildMesh, defaultMeshSettings, type Mesh } from "../../src/model/index.ts";
import { formatViolation, type Resource, readResources } from "../../src/resources/index.ts";
import type { ProxyNode } from "../../src/xds/index.ts";
import { nodeOf, viewOf } from "../../src/xds/testdata/sample.ts";
import { castFolder, homeOf, scenariosFolder } from "./places.ts";
import { readScenarios } from "./read.ts";

type PlainObject = Readonly<Record<string, unknown>>;

/** One cluster at one moment of a scenario, or with a sample in it: what a control plane would make of it. */
export interface Scene {
  readonly name: string;
  readonly cluster: string;
  readonly mesh: Mesh;
  /** Every proxy in it, by workload. */
  readonly nodes: ReadonlyMap<string, ProxyNode>;
}

const clusters = ["cluster1", "cluster2"] as const;
const variables = labVariables(clusters);

/** Each cluster with its cast, after each change that the scenarios make. No lab runs for it. */
export function* scenarioScenes(): Generator<Scene> {
  for (const scenario of readScenarios(scenariosFolder)) {
    if (scenario.refused) continue;
    const told = new Map<string, PlainObject[]>();
    const changed = (objects: Readonly<Record<string, readonly PlainObject[]>>) => {
      for (const [cluster, more] of Object.entries(objects))
        told.set(cluster, [...(told.get(cluster) ?? []), ...(more as PlainObject[])]);
      return Object.keys(objects);
    };
    const scenes = function* (touched: readonly string[], moment: string): Generator<Scene> {
      for (const cluster of touched) {
        const objects = [...castObjects(cluster), ...(told.get(cluster) ?? [])];
        yield sceneOf({ name: `${scenario.name} ${moment}`.trim(), cluster, objects });
      }
    };
    yield* scenes(changed(scenario.clusters), "");
    for (const [index, step] of scenario.steps.entries()) {
      if ("apply" in step && step.apply) yield* scenes(changed(step.apply), `after step ${index + 1}`);
    }
  }
}

/** The samples that ship with the package, where their texts say that they belong. */
export function* sampleScenes(): Generator<Scene> {
  const folder = join(import.meta.dirname, "../../samples");
  for (const cluster of clusters) {
    const objects = filesBelow(join(folder, "demo", cluster)).flatMap((file) => objectsIn(file));
    yield sceneOf({ name: "samples/demo", cluster, objects });
  }
  const demo = castObjects("cluster1");
  for (const sample of ["httpbin", "sleep", "tcp-echo", "grpc-echo"]) {
    const objects = filesBelow(join(folder, sample)).flatMap((file) => objectsIn(file));
    yield sceneOf({ name: `samples/${sample}`, cluster: "cluster1", objects: [...demo, ...objects] });
  }
  const bookinfo = objectsIn(join(folder, "bookinfo/platform/kube/bookinfo.yaml"));
  for (const file of filesBelow(join(folder, "bookinfo/networking"))) {
    const objects = [...demo, ...bookinfo, ...objectsIn(file)];
    const name = file.slice(folder.length + 1);
    yield sceneOf({ name: `samples/${name}`, cluster: name.includes("cluster2") ? "cluster2" : "cluster1", objects });
  }
}

function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".yaml"))
    .sort()
    .map((file) => join(folder, file));
}

function objectsIn(file: string): readonly PlainObject[] {
  return parseAllDocuments(substitute(readFileSync(file, "utf8"), variables).text).flatMap((document) => {
    const object = document.toJS() as PlainObject | null;
    return object ? [object] : [];
  });
}

const cast = new Map<string, readonly PlainObject[]>();

function castObjects(cluster: string): readonly PlainObject[] {
  const objects = cast.get(cluster) ?? filesBelow(join(castFolder, cluster)).flatMap(objectsIn);
  cast.set(cluster, objects);
  return objects;
}

/** What stands for the lab's addresses, and certificates where Secrets have them. */
function filled(object: PlainObject): string {
  const text = JSON.stringify(object)
    .replaceAll(/"\$\{([A-Z0-9_]+_PORT)\}"/g, (whole, name: string) => variables[name] ?? whole)
    .replaceAll(/\$\{(CERT|KEY|CA):([a-z0-9-]+)\}/g, (_whole, part: string, name: string) =>
      Buffer.from(certificateValue(part as "CERT", name)).toString("base64"),
    );
  return substitute(text, variables).text;
}

/** By what is read: the cast is the same in every scene. */
const known = new Map<string, readonly Resource[]>();

function read(objects: readonly object[], cluster: string, name: string): readonly Resource[] {
  return objects.flatMap((object) => {
    const text = filled(object as PlainObject);
    const resources = known.get(`${cluster} ${text}`) ?? readOne(text, cluster, name);
    known.set(`${cluster} ${text}`, resources);
    return resources;
  });
}

function readOne(text: string, cluster: string, name: string): readonly Resource[] {
  const { resources, violations } = readResources(text, { cluster, file: name, defaultNamespace: homeOf(cluster) });
  const wrong = violations.filter(({ severity }) => severity === "error");
  if (wrong.length > 0) throw new Error(wrong.map(formatViolation).join("\n"));
  return resources;
}

function sceneOf(of: { readonly name: string; readonly cluster: string; readonly objects: readonly object[] }): Scene {
  const { name, cluster } = of;
  const given = read([...profileObjects({ egressGateway: cluster === "cluster1" }), ...of.objects], cluster, name);
  const keyed = new Map(given.map((one) => [`${one.kind}/${one.metadata.namespace}/${one.metadata.name}`, one]));
  const ofKind = <K extends Resource["kind"]>(kind: K) =>
    [...keyed.values()].filter((one): one is Extract<Resource, { kind: K }> => one.kind === kind);
  const wishes = wantedPods({
    deployments: ofKind("Deployment"),
    pods: ofKind("Pod"),
    namespaces: new Map(ofKind("Namespace").map((one) => [one.metadata.name, one])),
  });
  const pods = wishes.map((wish, index): RunningPod & { readonly workload: string } => ({
    ...wish,
    name: `${wish.workload}-${wish.replica ?? 0}`,
    ip: `10.244.1.${index + 1}`,
    wanIp: undefined,
    ready: true,
    terminating: false,
    reachedAt: (port) => port,
    setOuterPorts: async () => {},
  }));
  const addresses = new Addresses();
  const services = ofKind("Service");
  const runtime = [
    ...services.map((service) => serviceObject(service, pods, addresses)),
    ...pods.map(podObject),
    ...services.flatMap((service) => endpointSlices(service, pods)),
  ];
  const mesh = buildMesh({
    view: viewOf([...keyed.values(), ...read(runtime, cluster, name)]),
    settings: { ...defaultMeshSettings, cluster },
  });
  const nodes = new Map<string, ProxyNode>();
  for (const pod of pods) {
    const gateway = pod.labels["istio"];
    if (!pod.injected && gateway === undefined) continue;
    const id = `${gateway ? "router" : "sidecar"}~${pod.ip}~${pod.name}.${pod.namespace}~${pod.namespace}.svc.cluster.local`;
    const metadata = {
      NAMESPACE: pod.namespace,
      SERVICE_ACCOUNT: pod.serviceAccount,
      LABELS: { ...pod.labels },
      CLUSTER_ID: cluster,
      INTERCEPTION_MODE: "REDIRECT",
      ...(gateway === "egressgateway" ? { REQUESTED_NETWORK_VIEW: "external" } : {}),
    };
    nodes.set(`${pod.namespace}/${pod.workload}`, nodeOf(id, metadata));
  }
  return { name, cluster, mesh, nodes };
}
