import type { Snapshot } from "../src/proto/index.ts";
import { boundListeners, gatewaySnapshot, meshOf, snapshotOf } from "./mesh.ts";

// Two clusters with a service of three ports (HTTP/1.1, HTTP/2, bytes), as both data planes are told of them.

/** Ports on loopback, one for each thing that is spoken. */
export interface SpokenPorts {
  readonly http1: number;
  readonly http2: number;
  readonly tcp: number;
}

/** The service that is called through gateway and server sidecar, and one that the client's sidecar calls by itself. */
export const farHost = "httpbin.bar.global";
export const nearHost = "direct.bar.global";

export type Role = "client" | "gateway" | "server";
export const nodeIds: Readonly<Record<Role, string>> = {
  client: "sidecar~127.0.0.1~sleep-1.foo~foo.svc.cluster.local",
  gateway: "router~127.0.0.1~gw-1.isthmus-system~isthmus-system.svc.cluster.local",
  server: "sidecar~127.0.0.1~httpbin-1.bar~bar.svc.cluster.local",
};

/** Where the proxies of one data plane listen. */
export interface PlanePorts {
  /** Of the client's sidecar; `nearTcp` is that of the TCP service which it calls by itself. */
  readonly client: SpokenPorts & { readonly nearTcp: number };
  readonly gateway: number;
  readonly server: SpokenPorts;
}

/** What each proxy of one data plane is told. `app` answers behind the server's sidecar, `near` speaks mutual TLS itself. */
export function planeSnapshots(
  ports: PlanePorts,
  { app, near }: { readonly app: SpokenPorts; readonly near: SpokenPorts },
): Readonly<Record<Role, Snapshot>> {
  const serving = meshOf("cluster2", servingYaml(ports.server));
  const { http1, http2, tcp, nearTcp } = ports.client;
  return {
    client: boundListeners(snapshotOf(meshOf("cluster1", callingYaml(ports.gateway, near)), nodeIds.client), {
      "0.0.0.0_8000": http1,
      "0.0.0.0_8002": http2,
      "240.0.0.2_9000": tcp,
      "240.0.0.3_9000": nearTcp,
    }),
    gateway: gatewaySnapshot(serving, ports.gateway),
    server: snapshotOf(serving, nodeIds.server, {
      INTERCEPTION_MODE: "NONE",
      APP_PORTS: JSON.stringify({
        [ports.server.http1]: app.http1,
        [ports.server.http2]: app.http2,
        [ports.server.tcp]: app.tcp,
      }),
    }),
  };
}

function servingYaml({ http1, http2, tcp }: SpokenPorts): string {
  return `
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
  ports:
  - { name: http1, port: 8000, targetPort: 80 }
  - { name: http2, port: 8002, targetPort: 82 }
  - { name: tcp, port: 9000, targetPort: 90 }
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
ports:
- { name: http1, port: ${http1}, protocol: TCP }
- { name: http2, port: ${http2}, protocol: TCP }
- { name: tcp, port: ${tcp}, protocol: TCP }
endpoints:
- { addresses: [127.0.0.1], conditions: { ready: true }, targetRef: { kind: Pod, name: httpbin-1, namespace: bar } }
`;
}

function callingYaml(gateway: number, near: SpokenPorts): string {
  const entry = (host: string, address: string, at: SpokenPorts) => `
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: { name: ${host.replaceAll(".", "-")}, namespace: foo }
spec:
  hosts: [${host}]
  location: MESH_INTERNAL
  ports:
  - { name: http1, number: 8000, protocol: http }
  - { name: http2, number: 8002, protocol: http2 }
  - { name: tcp, number: 9000, protocol: tcp }
  resolution: STATIC
  addresses: [${address}]
  endpoints: [{ address: 127.0.0.1, ports: { http1: ${at.http1}, http2: ${at.http2}, tcp: ${at.tcp} } }]
---`;
  return `${entry(farHost, "240.0.0.2", { http1: gateway, http2: gateway, tcp: gateway })}
${entry(nearHost, "240.0.0.3", near)}
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: { name: multicluster, namespace: isthmus-system }
spec: { host: "*.global", trafficPolicy: { tls: { mode: ISTIO_MUTUAL } } }
`;
}
