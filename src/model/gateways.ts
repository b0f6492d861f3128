import type { Gateway } from "../resources/index.ts";
import { type Labels, type Origin, selects } from "../values/index.ts";
import { byAge } from "./age.ts";

/** One server of one Gateway. The same object as long as the resource is. */
export interface GatewayServer {
  readonly gateway: { readonly name: string; readonly namespace: string };
  /** `namespace/name` of the Gateway. */
  readonly key: string;
  readonly selector: Labels;
  readonly server: Gateway["spec"]["servers"][number];
  readonly index: number;
  readonly created: number;
  readonly origin: Origin;
}

const made = new WeakMap<Gateway, readonly GatewayServer[]>();

export function buildGatewayServers(gateways: Iterable<Gateway>): readonly GatewayServer[] {
  const all: GatewayServer[] = [];
  for (const gateway of gateways) {
    let servers = made.get(gateway);
    if (!servers) {
      const { name, namespace, creationTimestamp } = gateway.metadata;
      servers = gateway.spec.servers.map((server, index) =>
        Object.freeze({
          gateway: Object.freeze({ name, namespace }),
          key: `${namespace}/${name}`,
          selector: gateway.spec.selector,
          server,
          index,
          created: creationTimestamp ?? 0,
          origin: gateway.origin,
        }),
      );
      made.set(gateway, servers);
    }
    all.push(...servers);
  }
  return Object.freeze(
    all.sort(
      (a, b) => byAge({ created: a.created, ...a.gateway }, { created: b.created, ...b.gateway }) || a.index - b.index,
    ),
  );
}

/** The servers that a workload with these labels runs, oldest first. A Gateway without selector is for none. */
export function serversOf(servers: readonly GatewayServer[], labels: Labels): readonly GatewayServer[] {
  return servers.filter((one) => Object.keys(one.selector).length > 0 && selects(one.selector, labels));
}
