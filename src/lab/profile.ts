import { gatewayImage } from "./images.ts";
import { egressClusterIp, gatewayClusterIp, gatewayNodePort } from "./variables.ts";

export const systemNamespace = "isthmus-system";
export const ingressName = "isthmus-ingressgateway";
export const egressName = "isthmus-egressgateway";

/** What installing the mesh with gateways for several clusters brings along: the objects of one cluster. */
export function profileObjects(options: { readonly egressGateway: boolean }): readonly object[] {
  return [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: systemNamespace } },
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "default" } },
    ...gateway(ingressName, "ingressgateway", "LoadBalancer", gatewayClusterIp),
    ...(options.egressGateway ? gateway(egressName, "egressgateway", "ClusterIP", egressClusterIp) : []),
    passthrough("ingressgateway"),
    ...(options.egressGateway ? [passthrough("egressgateway")] : []),
    {
      apiVersion: "networking.istio.io/v1alpha3",
      kind: "DestinationRule",
      metadata: { name: "isthmus-multicluster-destinationrule", namespace: systemNamespace },
      spec: { host: "*.global", trafficPolicy: { tls: { mode: "ISTIO_MUTUAL" } } },
    },
  ];
}

/** What a gateway passes on unopened: at the ingress to services here, at the egress to other clusters' gateways. */
function passthrough(role: string): object {
  return {
    apiVersion: "networking.istio.io/v1alpha3",
    kind: "Gateway",
    metadata: { name: `isthmus-multicluster-${role}`, namespace: systemNamespace },
    spec: {
      selector: { istio: role },
      servers: [
        {
          port: { number: 15443, name: "tls", protocol: "TLS" },
          tls: { mode: "AUTO_PASSTHROUGH" },
          hosts: ["*.global"],
        },
      ],
    },
  };
}

function gateway(name: string, role: string, type: string, clusterIP: string): readonly object[] {
  const labels = { app: name, istio: role };
  const ports = [
    { name: "status-port", port: 15021, targetPort: 15021 },
    { name: "http2", port: 80, targetPort: 8080 },
    { name: "https", port: 443, targetPort: 8443 },
    { name: "tls", port: 15443, targetPort: 15443, ...(type === "LoadBalancer" ? { nodePort: gatewayNodePort } : {}) },
  ];
  return [
    {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: `${name}-service-account`, namespace: systemNamespace },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace: systemNamespace, labels },
      spec: { type, clusterIP, selector: labels, ports },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name, namespace: systemNamespace, labels },
      spec: {
        replicas: 1,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels, annotations: { "sidecar.istio.io/inject": "false" } },
          spec: {
            serviceAccountName: `${name}-service-account`,
            containers: [{ name: "istio-proxy", image: gatewayImage }],
          },
        },
      },
    },
  ];
}
