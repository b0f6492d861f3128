/** Ports of the machine that a small mesh lives on. */
export interface Ports {
  /** The gateway: TLS by server name, and plain HTTP for everybody. */
  readonly passthrough: number;
  readonly edge: number;
  /** The client's explicit proxy. */
  readonly explicit: number;
  /** The server's sidecar and the application behind it, for HTTP and for a port that nobody declared a protocol for. */
  readonly echo: number;
  readonly echoApp: number;
  readonly raw: number;
  readonly rawApp: number;
  /** An application without a sidecar. */
  readonly adminApp: number;
}

export const addresses = { "echo.bar.svc.cluster.local": "10.96.0.20", "raw.bar.svc.cluster.local": "10.96.0.21" };

/** A client, a server behind its sidecar, a second one without, and a gateway that exposes both ways. */
export const meshYaml = (ports: Ports) => `
apiVersion: v1
kind: Service
metadata: { name: isthmus-ingressgateway, namespace: isthmus-system }
spec:
  clusterIP: 10.96.0.5
  ports: [{ name: http2, port: 80, targetPort: 8080 }]
  selector: { istio: ingressgateway }
---
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: { name: cross, namespace: isthmus-system }
spec:
  selector: { istio: ingressgateway }
  servers:
  - hosts: ["*.global"]
    port: { name: tls, number: 15443, protocol: TLS }
    tls: { mode: AUTO_PASSTHROUGH }
---
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: { name: edge, namespace: bar }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { hosts: ["*"], port: { name: http, number: 80, protocol: HTTP } }
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: { name: edge, namespace: bar }
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - match: [{ uri: { prefix: /admin } }]
    route: [{ destination: { host: admin, port: { number: 8000 } } }]
  - match: [{ headers: { x-role: { exact: admin } } }]
    route: [{ destination: { host: admin, port: { number: 8000 } } }]
  - route: [{ destination: { host: echo, port: { number: 8000 } } }]
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: { name: quick-to-forget, namespace: bar }
spec: { host: echo, trafficPolicy: { connectionPool: { http: { idleTimeout: 1s } } } }
---
apiVersion: v1
kind: Service
metadata: { name: echo, namespace: bar }
spec: { clusterIP: 10.96.0.20, ports: [{ name: http, port: 8000, targetPort: 80 }], selector: { app: echo } }
---
apiVersion: v1
kind: Service
metadata: { name: raw, namespace: bar }
spec: { clusterIP: 10.96.0.21, ports: [{ name: any, port: 9000 }], selector: { app: echo } }
---
apiVersion: v1
kind: Service
metadata: { name: admin, namespace: bar }
spec: { clusterIP: 10.96.0.22, ports: [{ name: http, port: 8000 }], selector: { app: admin } }
---
apiVersion: v1
kind: Pod
metadata: { name: echo-1, namespace: bar, labels: { app: echo, security.istio.io/tlsMode: istio } }
spec: { serviceAccountName: echo, containers: [{ name: echo, image: echo }] }
status: { phase: Running, podIP: 127.0.0.1 }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: echo-a, namespace: bar, labels: { kubernetes.io/service-name: echo } }
addressType: IPv4
ports: [{ name: http, port: ${ports.echo} }]
endpoints:
- { addresses: [127.0.0.1], conditions: { ready: true }, targetRef: { kind: Pod, name: echo-1, namespace: bar } }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: raw-a, namespace: bar, labels: { kubernetes.io/service-name: raw } }
addressType: IPv4
ports: [{ name: any, port: ${ports.raw} }]
endpoints:
- { addresses: [127.0.0.1], conditions: { ready: true }, targetRef: { kind: Pod, name: echo-1, namespace: bar } }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: admin-a, namespace: bar, labels: { kubernetes.io/service-name: admin } }
addressType: IPv4
ports: [{ name: http, port: ${ports.adminApp} }]
endpoints:
- { addresses: [127.0.0.1], conditions: { ready: true } }
`;

export const proxiesOf = (ports: Ports) => [
  {
    name: "gateway",
    account: { namespace: "isthmus-system", name: "gateway" },
    id: "router~127.0.0.1~gw-1.isthmus-system~isthmus-system.svc.cluster.local",
    metadata: {
      LABELS: { istio: "ingressgateway" },
      INTERCEPTION_MODE: "NONE",
      APP_PORTS: JSON.stringify({ [ports.passthrough]: 15443, [ports.edge]: 8080 }),
    },
  },
  {
    name: "server",
    account: { namespace: "bar", name: "echo" },
    id: "sidecar~127.0.0.1~echo-1.bar~bar.svc.cluster.local",
    metadata: {
      LABELS: { app: "echo" },
      INTERCEPTION_MODE: "NONE",
      APP_PORTS: JSON.stringify({ [ports.echo]: ports.echoApp, [ports.raw]: ports.rawApp }),
    },
  },
  {
    name: "client",
    account: { namespace: "foo", name: "sleep" },
    id: "sidecar~127.0.0.1~sleep-1.foo~foo.svc.cluster.local",
    metadata: { INTERCEPTION_MODE: "NONE", EXPLICIT_PORT: String(ports.explicit) },
  },
];
