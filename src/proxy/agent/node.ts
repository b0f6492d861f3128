import { create, type JsonObject } from "@bufbuild/protobuf";
import { type Node, NodeSchema } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import type { Hostname, Ip, Labels } from "../../values/index.ts";

/** What a proxy tells the control plane of itself. */
export interface NodeFacts {
  readonly type: "sidecar" | "router";
  readonly ip: Ip;
  readonly pod: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly cluster: string;
  /** Of the cluster's own services: what they end in after `.svc`. */
  readonly clusterDomain: Hostname;
  readonly labels: Labels;
  readonly network: string | undefined;
  /** Networks whose endpoints it wants to see instead of the usual ones. */
  readonly networkView: string | undefined;
  readonly interception: "REDIRECT" | "NONE";
  /** Listening port to application port, where nothing is redirected. */
  readonly appPorts: Readonly<Record<string, number>> | undefined;
  readonly explicitPort: number | undefined;
  readonly version: string;
}

/** The node message in the form that agents of this mesh family send. */
export function nodeMessage(facts: NodeFacts): Node {
  const { type, ip, pod, namespace } = facts;
  const domain = `${namespace}.svc.${facts.clusterDomain}`;
  const metadata: JsonObject = {
    CLUSTER_ID: facts.cluster,
    NAMESPACE: namespace,
    SERVICE_ACCOUNT: facts.serviceAccount,
    NAME: pod,
    LABELS: { ...facts.labels },
    INSTANCE_IPS: ip,
    INTERCEPTION_MODE: facts.interception,
    ISTHMUS_VERSION: facts.version,
    ...(facts.network ? { NETWORK: facts.network } : {}),
    ...(facts.networkView ? { REQUESTED_NETWORK_VIEW: facts.networkView } : {}),
    ...(facts.appPorts ? { APP_PORTS: JSON.stringify(facts.appPorts) } : {}),
    ...(facts.explicitPort === undefined ? {} : { EXPLICIT_PORT: String(facts.explicitPort) }),
  };
  return create(NodeSchema, {
    id: `${type}~${ip}~${pod}.${namespace}~${domain}`,
    cluster: `${facts.labels["app"] ?? pod}.${namespace}`,
    metadata,
    userAgentName: "isthmus",
  });
}
