import { type Mesh, ruleFor } from "../model/index.ts";
import { type Hostname, parseClusterName } from "../values/index.ts";
import { type Client, visibleServices } from "./client.ts";
import { policyFor } from "./policy.ts";
import type { TcpDestination } from "./tcp-routes.ts";

/** What the rule of a destination says of the connections that lead there; times in milliseconds. */
export interface TcpOptions {
  /** 0 for as long as both sides like. */
  readonly idleTimeoutMs?: number | undefined;
  readonly maxDurationMs?: number | undefined;
  /** Connections of one caller address go to one endpoint. */
  readonly bySource?: boolean | undefined;
}

/** Of several destinations the first one's rule counts: the settings are of the connection that comes in. */
export function tcpOptionsFor(mesh: Mesh, { to, client }: { readonly to: TcpDestination; readonly client: Client }) {
  const name = typeof to === "string" ? to : to[0]?.cluster;
  const traffic = name === undefined ? undefined : parseClusterName(name);
  const service = traffic && visibleServices(mesh, client.namespace).get(traffic.host as Hostname);
  if (!service) return {};
  const rule = ruleFor(mesh.rules, service, {
    namespace: client.namespace,
    systemNamespace: mesh.settings.systemNamespace,
  });
  const subset = rule?.subsets.find((one) => one.name === traffic.subset);
  const { connectionPool, loadBalancer } = policyFor(rule, traffic.port, subset);
  const options: TcpOptions = {
    idleTimeoutMs: connectionPool?.tcp?.idleTimeout,
    maxDurationMs: connectionPool?.tcp?.maxConnectionDuration,
    bySource: loadBalancer?.consistentHash?.useSourceIp,
  };
  return options;
}
