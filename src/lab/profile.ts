import { egressName, gatewayPorts, ingressName, mutualTls, passthrough } from "../install/index.ts";
import { gatewayImage } from "./images.ts";
import { egressClusterIp, gatewayClusterIp, gatewayNodePort } from "./variables.ts";

export const systemNamespace = "isthmus-system";
export { egressName, ingressName };

/** What installing the mesh with gateways for several clusters brings along: the objects of one cluster. */
export function profileObjects(options: { readonly egressGateway: boolean }): readonly object[] {
  return [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: systemNamespace } },
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "default" } },
    ...gateway(ingressName, "ingressgateway", "LoadBalancer", gatewayClusterIp),
    ...(options.egressGateway ? gateway(egressName, "egressgateway", "ClusterIP", egressClusterIp) : []),
    passthrough("ingress", { namespace: systemNamespace }),
    ...(options.egressGateway ? [passthrough("egress", { namespace: systemNamespace })] : []),
    mutualTls({ namespace: systemNamespace }),
  ];
}

function gateway(name: string, role: string, type: string, clusterIP: string): readonly object[] {
  const labels = { app: name, istio: role };
  const ports = gatewayPorts.map((port) => ({
    ...port,
    ...(port.port === 15443 && type === "LoadBalancer" ? { nodePort: gatewayNodePort } : {}),
  }));
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
