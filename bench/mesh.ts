import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { create, fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { Cell, systemClock } from "../src/base/index.ts";
import { Authority, checkCacerts, createIntermediate, createRoot, encodeCsr, makeKeyPair } from "../src/ca/index.ts";
import { buildMesh, defaultMeshSettings, type Mesh } from "../src/model/index.ts";
import { NodeSchema } from "../src/proto/gen/envoy/config/core/v3/base_pb.js";
import { type Listener, ListenerSchema } from "../src/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { HttpConnectionManagerSchema } from "../src/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TcpProxySchema } from "../src/proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { pack, type Snapshot, typeUrls } from "../src/proto/index.ts";
import { memorySource, ResourceStore } from "../src/sources/index.ts";
import { parseSpiffeId } from "../src/values/index.ts";
import { readNode, snapshotFor } from "../src/xds/index.ts";
import type { Issued } from "./issued.ts";
import { benchFile, type Program, startProgram } from "./machine.ts";
import type { ProxyFile } from "./proxy-process.ts";

// Proxies with the configuration that the compiler makes of YAML, as a control plane would tell it to them.

/** The host whose calls are measured, and the SNI by which gateways know its port. */
export const host = "httpbin.bar.global";
export const sni = `outbound_.8000_._.${host}`;

/** YAML to a mesh. Throws when anything in it is wrong. */
export function meshOf(cluster: string, yaml: string): Mesh {
  const store = new ResourceStore();
  const violations = memorySource({ store, cluster }).putText("bench.yaml", yaml);
  if (violations.length > 0) throw new Error(violations.map(({ path, message }) => `${path}: ${message}`).join("\n"));
  return buildMesh({ view: store.view.value.byKind, settings: { ...defaultMeshSettings, cluster } });
}

export function snapshotOf(mesh: Mesh, id: string, metadata: JsonObject = {}): Snapshot {
  const read = readNode(create(NodeSchema, { id, metadata }));
  if (!read.ok) throw new Error(read.reason);
  return snapshotFor(mesh, read.node);
}

/** The serving cluster: its gateway, and one workload whose sidecar listens where the slice says. */
export function servingCluster(sidecarPort: number): Mesh {
  return meshOf(
    "cluster2",
    `
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: { name: multicluster, namespace: isthmus-system }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { hosts: ["*.global"], port: { name: tls, number: 15443, protocol: TLS }, tls: { mode: AUTO_PASSTHROUGH } }
---
apiVersion: v1
kind: Service
metadata: { name: httpbin, namespace: bar }
spec:
  clusterIP: 10.96.0.20
  ports: [{ name: http, port: 8000, targetPort: 80 }]
  selector: { app: httpbin }
---
apiVersion: v1
kind: Pod
metadata: { name: httpbin-1, namespace: bar, labels: { app: httpbin, security.istio.io/tlsMode: istio } }
spec: { serviceAccountName: httpbin, containers: [{ name: httpbin, image: httpbin }] }
status: { phase: Running, podIP: 127.0.0.1 }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: httpbin-abc, namespace: bar, labels: { kubernetes.io/service-name: httpbin } }
addressType: IPv4
ports: [{ name: http, port: ${sidecarPort}, protocol: TCP }]
endpoints:
- { addresses: [127.0.0.1], conditions: { ready: true }, targetRef: { kind: Pod, name: httpbin-1, namespace: bar } }
`,
  );
}

/** The calling cluster: it knows the other's service by name, behind that one's gateway. */
export function callingCluster(gatewayPort: number): Mesh {
  return meshOf(
    "cluster1",
    `
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: { name: httpbin-bar, namespace: foo }
spec:
  hosts: [${host}]
  location: MESH_INTERNAL
  ports: [{ name: http1, number: 8000, protocol: http }]
  resolution: STATIC
  addresses: [240.0.0.2]
  endpoints: [{ address: 127.0.0.1, ports: { http1: ${gatewayPort} } }]
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: { name: multicluster, namespace: isthmus-system }
spec: { host: "*.global", trafficPolicy: { tls: { mode: ISTIO_MUTUAL } } }
`,
  );
}

/** The sidecar of the serving workload: one port of its own, and the application behind it. */
export function serverSnapshot(mesh: Mesh, port: number, app: number): Snapshot {
  return snapshotOf(mesh, "sidecar~127.0.0.1~httpbin-1.bar~bar.svc.cluster.local", {
    INTERCEPTION_MODE: "NONE",
    APP_PORTS: JSON.stringify({ [port]: app }),
  });
}

export function gatewaySnapshot(mesh: Mesh, port: number): Snapshot {
  return snapshotOf(mesh, "router~127.0.0.1~gw-1.isthmus-system~isthmus-system.svc.cluster.local", {
    LABELS: { istio: "ingressgateway" },
    INTERCEPTION_MODE: "NONE",
    APP_PORTS: JSON.stringify({ [port]: 15443 }),
  });
}

/** The sidecar of the calling workload, with its listener for port 8000 bound at `port`. */
export function clientSnapshot(mesh: Mesh, port: number): Snapshot {
  const snapshot = snapshotOf(mesh, "sidecar~127.0.0.1~sleep-1.foo~foo.svc.cluster.local");
  return boundListeners(snapshot, { "0.0.0.0_8000": port });
}

/** The listeners that are named, bound on loopback at these ports: the same as behind a redirect, without the redirect. */
export function boundListeners(snapshot: Snapshot, ports: Readonly<Record<string, number>>): Snapshot {
  return editListeners(snapshot, (listener) => {
    const port = ports[listener.name];
    if (port === undefined) return undefined;
    const address = listener.address?.address;
    if (address?.case !== "socketAddress") throw new Error(`BUG: "${listener.name}" has no address`);
    address.value.address = "127.0.0.1";
    address.value.portSpecifier = { case: "portValue", value: port };
    delete listener.bindToPort;
    return listener;
  });
}

/** The listeners that `edit` gives back. */
export function editListeners(snapshot: Snapshot, edit: (listener: Listener) => Listener | undefined): Snapshot {
  const listeners = [...snapshot.get(typeUrls.listener)!].flatMap(([name, one]) => {
    const edited = edit(fromBinary(ListenerSchema, one.bytes));
    return edited ? [[name, { ...one, bytes: toBinary(ListenerSchema, edited) }] as const] : [];
  });
  return new Map([...snapshot, [typeUrls.listener, new Map(listeners)]]);
}

/** The same without access logs, as the proxies beside it are run. */
export function withoutAccessLogs(snapshot: Snapshot): Snapshot {
  return editListeners(snapshot, (listener) => {
    listener.accessLog = [];
    for (const chain of [
      ...listener.filterChains,
      ...(listener.defaultFilterChain ? [listener.defaultFilterChain] : []),
    ]) {
      for (const filter of chain.filters) {
        if (filter.configType.case !== "typedConfig") continue;
        const { typeUrl, value } = filter.configType.value;
        for (const schema of [HttpConnectionManagerSchema, TcpProxySchema]) {
          if (!typeUrl.endsWith(`/${schema.typeName}`)) continue;
          const message = fromBinary<typeof schema>(schema, value);
          message.accessLog = [];
          filter.configType = { case: "typedConfig", value: pack(schema, message as never) };
        }
      }
    }
    return listener;
  });
}

/** An authority made for one run, and certificates of it. */
export class BenchAuthority {
  readonly #authority: Authority;

  constructor() {
    const nowMs = systemClock.now();
    const issuer = createRoot({ nowMs });
    const checked = checkCacerts(createIntermediate({ nowMs, issuer, cluster: "bench" }), { nowMs, demo: "refused" });
    if (!checked.ok) throw new Error("BUG: CA files made for the benchmark are unfit");
    this.#authority = new Authority({
      cacerts: new Cell(checked.cacerts),
      clock: systemClock,
      settings: { trustDomain: "cluster.local" },
    });
  }

  /** PEM. With names only for those who cannot check an identity. */
  issue(namespace: string, account: string, dnsNames: readonly string[] = []): Issued {
    const { privateKey } = makeKeyPair("ec-p256");
    const identity = parseSpiffeId(`spiffe://cluster.local/ns/${namespace}/sa/${account}`)!;
    const csr = encodeCsr(privateKey);
    const { certificate, intermediates, roots } = this.#authority.signServer(csr, { identity, dnsNames, ips: [] });
    const key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    return { chain: [certificate, ...intermediates].join(""), key, roots };
  }
}

/** Starts an embedded proxy in a process of its own; returns when it listens. */
export async function startIsthmus(options: {
  readonly dir: string;
  readonly name: string;
  readonly snapshot: Snapshot;
  readonly certificate?: ProxyFile["certificate"];
  readonly node?: string | undefined;
}): Promise<Program> {
  const { dir, name, snapshot, certificate, node } = options;
  const types = [typeUrls.cluster, typeUrls.endpoints, typeUrls.listener, typeUrls.route].map((type) => ({
    type,
    resources: [...(snapshot.get(type) ?? new Map()).values()].map((one) => ({
      name: one.name as string,
      version: one.version as string,
      bytes: Buffer.from(one.bytes as Uint8Array).toString("base64"),
    })),
  }));
  const told = { kind: "all", types } as const;
  return startProxyProcess({ dir, name, node, file: certificate ? { told, certificate } : { told } });
}

/** Starts an embedded proxy with what a file says; returns when it runs what it has been told by then. */
export async function startProxyProcess(options: {
  readonly dir: string;
  readonly name: string;
  readonly file: ProxyFile;
  readonly node?: string | undefined;
}): Promise<Program> {
  const { dir, name, node = process.execPath } = options;
  const file = join(dir, `${name.replace(/\W+/g, "-")}.json`);
  writeFileSync(file, JSON.stringify(options.file), { mode: 0o600 });
  const profileDir = process.env["BENCH_PROFILE"];
  const profile = profileDir
    ? ["--cpu-prof", `--cpu-prof-dir=${profileDir}`, `--cpu-prof-name=${name}.cpuprofile`]
    : [];
  const flags = (process.env["BENCH_NODE_FLAGS"] ?? "").split(" ").filter((flag) => flag !== "");
  const program = startProgram("measured", [node, ...flags, ...profile, benchFile("proxy-process.js"), file], {
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  await new Promise<void>((resolve, reject) => {
    program.child.once("message", () => resolve());
    program.child.once("exit", (code) => reject(new Error(`${name} did not come up (${code})`)));
  });
  return program;
}
