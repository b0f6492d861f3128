import { create } from "@bufbuild/protobuf";
import { buildMesh, defaultMeshSettings, type Mesh, type MeshInput } from "../src/model/index.ts";
import { NodeSchema } from "../src/proto/gen/envoy/config/core/v3/base_pb.js";
import type { Snapshot } from "../src/proto/index.ts";
import { decodeResource, kindNames, type Resource } from "../src/resources/index.ts";
import { changesBetween } from "../src/values/index.ts";
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
    const rounds = {
      entry: (round: number) => withEntry(view, round),
      endpoints: (round: number) => withEndpoints(view, round),
      pod: (round: number) => withPod(view, round),
      rule: (round: number) => withRule(view, round),
      // A new name changes the routes of its port, which are sent whole.
      added: (round: number) => changed(view, resource(entry(2 * (count + round), 15443))),
    };
    const times = Object.fromEntries(Object.keys(rounds).map((kind) => [kind, { made: [], sent: [] }])) as unknown as {
      readonly [K in keyof typeof rounds]: { readonly made: number[]; readonly sent: number[] };
    };
    let snapshot = snapshotFor(mesh!, node);
    let bytes = 0;
    for (let round = 0; round < 15; round++) {
      for (const kind of ["entry", "endpoints", "pod", "rule", "added"] as const) {
        view = rounds[kind](round);
        const started = now();
        mesh = buildMesh({ view, settings, previous: mesh });
        const next = snapshotFor(mesh, node, snapshot);
        times[kind].made.push(now() - started);
        bytes += bytesToSend(snapshot, next);
        times[kind].sent.push(now() - started);
        snapshot = next;
      }
    }
    const median = (all: number[]) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)]!;
    const say = (what: string, { made, sent }: { readonly made: number[]; readonly sent: number[] }) => {
      const [make, send] = [median(made), median(sent)];
      print(
        `compile ${count} services, ${what}: ${make.toFixed(2)} ms CPU (1/${Math.round(whole / make)}), with the bytes to send ${send.toFixed(2)} ms (1/${Math.round(whole / send)})`,
      );
    };
    print(`compile ${count} services, whole: ${whole.toFixed(1)} ms CPU; ${bytes} bytes to send after all changes`);
    say("one entry changed", times.entry);
    say("one endpoint changed", times.endpoints);
    say("one pod's labels changed", times.pod);
    say("one rule changed", times.rule);
    say("one entry added", times.added);
  }
}

/** Puts the bytes of all that is new together, as sending the differences to one proxy would. */
function bytesToSend(before: Snapshot, after: Snapshot): number {
  let bytes = 0;
  for (const [type, resources] of after)
    for (const { before: old, after: now } of changesBetween(before.get(type) ?? new Map(), resources))
      if (now && now.version !== old?.version) bytes += now.bytes.length;
  return bytes;
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
      addresses: [`240.${1 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}`],
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
    pod(at, "v1"),
    endpoints(at, last),
  ];
}

function pod(at: number, version: string): object {
  const labels = { app: `svc${at}`, version, "security.istio.io/tlsMode": "istio" };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: `svc${at}-0`, namespace: namespaceOf(at), labels },
    spec: { serviceAccountName: `svc${at}`, containers: [{ name: "app" }] },
    status: { phase: "Running", podIP: `10.1.${at >> 8}.${at & 255}` },
  };
}

function rule(at: number, most: number): object {
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "DestinationRule",
    metadata: { name: "rule", namespace: namespaceOf(at) },
    spec: {
      host: `svc${at}.${namespaceOf(at)}.svc.cluster.local`,
      trafficPolicy: { connectionPool: { tcp: { maxConnections: most } } },
    },
  };
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
const withPod = (view: MeshInput, round: number) => changed(view, resource(pod(2 * round + 1, `v${round + 2}`)));
const withRule = (view: MeshInput, round: number) => changed(view, resource(rule(1, 100 + round)));
