import { type AdminReply, type AdminRoutes, explain } from "../../base/index.ts";
import { resourceJson } from "../../proto/index.ts";
import type { ConfigStore } from "../config/store.ts";
import type { DataPath } from "./data-path.ts";
import type { Identity } from "./identity.ts";
import type { NodeFacts } from "./node.ts";

/** The paths of the proxy's admin API, named as Envoy names them where it has the same. None of them shows a key. */
export function adminRoutes(parts: {
  /** Why it is not ready; undefined when it is. */
  readonly ready: () => string | undefined;
  readonly stopping: () => boolean;
  readonly store: ConfigStore;
  readonly proxy: DataPath;
  readonly identity: Identity;
  readonly node: NodeFacts;
}): AdminRoutes {
  const { ready, stopping, store, proxy, identity, node } = parts;
  const readiness = () => {
    const why = ready();
    return why === undefined ? { text: "ready\n" } : { status: 503, text: `${why}\n` };
  };
  const prometheus = async () => ({ text: await proxy.metricsText(), contentType: "text/plain; version=0.0.4" });
  return {
    "GET /ready": readiness,
    "GET /healthz/ready": readiness,
    "GET /metrics": prometheus,
    "GET /stats/prometheus": prometheus,
    "GET /server_info": () => ({
      json: { state: stopping() ? "DRAINING" : ready() === undefined ? "LIVE" : "INITIALIZING", node },
    }),
    "GET /listeners": async () => ({ json: (await proxy.views()).listeners }),
    "GET /clusters": async () => ({ json: (await proxy.views()).clusters }),
    "GET /warming": async () => {
      const { clusters } = await proxy.views();
      return { json: { warming: store.warming + clusters.filter(({ waiting }) => waiting).length } };
    },
    "GET /certs": () => certificatesReply(identity),
    "GET /config_dump": ({ query }) => ({
      json: store
        .dump()
        .filter(({ type, name }) => type.includes(query.get("type") ?? "") && name.includes(query.get("name") ?? ""))
        .map(({ type, name, version, bytes, acceptedMs, state }) => ({
          type,
          name,
          version,
          state,
          accepted: new Date(acceptedMs).toISOString(),
          resource: resourceJson(type, bytes),
        })),
    }),
  };
}

/** What is held, without the key, and why there is nothing better. */
export function certificatesReply({ certificates }: Identity): AdminReply {
  const { current, problem } = certificates;
  return {
    json: {
      certificates: current.value ? [current.value] : [],
      problem: problem.value ? explain(problem.value) : null,
    },
  };
}
