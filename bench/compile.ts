import { create } from "@bufbuild/protobuf";
import { buildMesh, defaultMeshSettings, type Mesh, type MeshInput } from "../src/model/index.ts";
import { NodeSchema } from "../src/proto/gen/envoy/config/core/v3/base_pb.js";
import { decodeResource, kindNames, type Resource } from "../src/resources/index.ts";
import { type ProxyNode, readNode, snapshotFor } from "../src/xds/index.ts";

const settings = Object.freeze({ cluster: "cluster1", ...defaultMeshSettings });

/** Prints how long resources take to become one sidecar's snapshot: all of it, and after one change. */
export async function run(print: (line: string) => void): Promise<void> {
  for (const size of [100, 1_000, 10_000]) benchCompile(print, [size]);
}

function benchCompile(print: (line: string) => void, sizes: readonly number[]): void {
  // CPU of the process, in milliseconds: on a shared machine it is steadier than the clock on the wall.
  const now = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  };
  for (const count of sizes) {
    const node = sidecar();
    // Whole: nothing is known of these objects. The last of three, so that the code is warm and the objects are not.
    let whole = 0;
    let view = viewOf(count);
    let mesh: Mesh | undefined;
    for (let round = 0; round < 3; round++) {
      view = viewOf(count);
      const started = now();
      mesh = buildMesh({ view, settings });
      snapshotFor(mesh, node);
      whole = now() - started;
    }
    const changes = { entry: [] as number[], endpoints: [] as number[] };
    for (let round = 0; round < 11; round++) {
      for (const kind of ["entry", "endpoints"] as const) {
        view = kind === "entry" ? withEntry(view, round) : withEndpoints(view, round);
        const started = now();
        mesh = buildMesh({ view, settings, previous: mesh });
        snapshotFor(mesh, node);
        changes[kind].push(now() - started);
      }
    }
    const median = (times: number[]) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
    const line = (what: string, ms: number) => `${what} ${ms.toFixed(2)} ms (1/${Math.round(whole / ms)})`;
    print(
      `compile ${count} services (CPU): whole ${whole.toFixed(1)} ms, ${line("one entry changed", median(changes.entry))}, ${line("one endpoint changed", median(changes.endpoints))}`,
    );
  }
}

function sidecar(): ProxyNode {
  const read = readNode(create(NodeSchema, { id: "sidecar~10.1.0.5~sleep-1.ns0~ns0.svc.cluster.local" }));
  if (!read.ok) throw new Error(read.reason);
  return read.node;
}

function resource(object: object): Resource {
  const decoded = decodeResource(object, { cluster: "cluster1" });
  if (decoded.outcome !== "good") throw new Error(JSON.stringify(decoded));
  return decoded.resource;
}

const namespaceOf = (at: number) => `ns${at % 50}`;

/** Half Services with a pod each, half entries of another cluster. */
function viewOf(count: number): MeshInput {
  const view = Object.fromEntries(kindNames.map((kind) => [kind, new Map<string, Resource>()]));
  const add = (object: object): void => {
    const one = resource(object);
    view[one.kind]!.set(`${one.metadata.namespace}/${one.metadata.name}`, one);
  };
  for (let at = 0; at < count; at++) {
    if (at % 2 === 0) add(entry(at, 15443));
    else for (const one of service(at, 10)) add(one);
  }
  return view as unknown as MeshInput;
}

function entry(at: number, port: number): object {
  return {
    apiVersion: "networking.istio.io/v1alpha3",
    kind: "ServiceEntry",
    metadata: { name: `entry${at}`, namespace: namespaceOf(at) },
    spec: {
      hosts: [`s${at}.${namespaceOf(at)}.global`],
      location: "MESH_INTERNAL",
      ports: [{ name: "http1", number: 8000, protocol: "http" }],
      resolution: "DNS",
      addresses: [`240.1.${at >> 8}.${at & 255}`],
      endpoints: [{ address: "172.18.0.2", ports: { http1: port } }],
    },
  };
}

function service(at: number, last: number): object[] {
  const metadata = (name: string, labels: object = {}) => ({ name, namespace: namespaceOf(at), labels });
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: metadata(`svc${at}`),
      spec: {
        clusterIP: `10.96.${at >> 8}.${at & 255}`,
        ports: [{ name: "http", port: 8000, targetPort: 8080 }],
        selector: { app: `svc${at}` },
      },
    },
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: metadata(`svc${at}-0`, { app: `svc${at}`, "security.istio.io/tlsMode": "istio" }),
      spec: { serviceAccountName: `svc${at}`, containers: [{ name: "app" }] },
      status: { phase: "Running", podIP: `10.1.${at >> 8}.${at & 255}` },
    },
    endpoints(at, last),
  ];
}

function endpoints(at: number, last: number): object {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `svc${at}-x`, namespace: namespaceOf(at), labels: { "kubernetes.io/service-name": `svc${at}` } },
    addressType: "IPv4",
    ports: [{ name: "http", port: 8080 }],
    endpoints: [{ addresses: [`10.2.${last}.${at & 255}`], targetRef: { kind: "Pod", name: `svc${at}-0` } }],
  };
}

function changed(view: MeshInput, one: Resource): MeshInput {
  const byKind = view as unknown as Record<string, ReadonlyMap<string, Resource>>;
  const map = new Map(byKind[one.kind]);
  map.set(`${one.metadata.namespace}/${one.metadata.name}`, one);
  return { ...byKind, [one.kind]: map } as unknown as MeshInput;
}

const withEntry = (view: MeshInput, round: number) => changed(view, resource(entry(2 * round, 20_000 + round)));
const withEndpoints = (view: MeshInput, round: number) => changed(view, resource(endpoints(2 * round + 1, 20 + round)));
