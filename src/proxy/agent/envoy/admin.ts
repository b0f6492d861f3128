import type { AdminReply, AdminRoutes, Metrics } from "../../../base/index.ts";
import { certificatesReply } from "../admin.ts";
import type { Identity } from "../identity.ts";
import type { NodeFacts } from "../node.ts";
import { askEnvoy } from "./ask-envoy.ts";
import type { EnvoyAdmin } from "./bootstrap.ts";
import { resourcesIn } from "./dump.ts";

/** The paths of the agent's admin API: those of the embedded proxy, with Envoy's own answers where it is Envoy's to say. */
export function envoyAdminRoutes(parts: {
  /** Why it is not ready; undefined when it is. */
  readonly ready: () => Promise<string | undefined>;
  readonly admin: EnvoyAdmin;
  readonly identity: Identity;
  readonly metrics: Metrics;
  readonly node: NodeFacts;
}): AdminRoutes {
  const { ready, admin, identity, metrics, node } = parts;
  const readiness = async (): Promise<AdminReply> => {
    const why = await ready();
    return why === undefined ? { text: "ready\n" } : { status: 503, text: `${why}\n` };
  };
  const pass = (path: string) => async (): Promise<AdminReply> => {
    const { status, text } = await askEnvoy(admin, "GET", path);
    return status === 200 ? { json: JSON.parse(text) as unknown } : { status, text };
  };
  /** One page of both. While Envoy does not answer, the agent's own numbers are all there is, and say so. */
  const prometheus = async (): Promise<AdminReply> => {
    const contentType = "text/plain; version=0.0.4";
    const own = await metrics.text();
    try {
      const { text } = await askEnvoy(admin, "GET", "/stats/prometheus");
      return { text: `${own.trimEnd()}\n${text}`, contentType };
    } catch {
      return { text: own, contentType };
    }
  };
  return {
    "GET /ready": readiness,
    "GET /healthz/ready": readiness,
    "GET /metrics": prometheus,
    "GET /stats/prometheus": prometheus,
    "GET /server_info": async () => ({
      json: { state: (await ready()) === undefined ? "LIVE" : "INITIALIZING", node },
    }),
    "GET /listeners": pass("/listeners?format=json"),
    "GET /clusters": pass("/clusters?format=json"),
    "GET /warming": async () => {
      const { status, text } = await askEnvoy(admin, "GET", "/stats?filter=(warming_clusters|listeners_warming)$");
      if (status !== 200) return { status, text };
      const counts = [...text.matchAll(/: (\d+)$/gm)].map(([, count]) => Number(count));
      return { json: { warming: counts.reduce((sum, count) => sum + count, 0) } };
    },
    "GET /certs": () => certificatesReply(identity),
    "GET /config_dump": async ({ query }) => {
      const { status, text } = await askEnvoy(admin, "GET", "/config_dump?include_eds");
      if (status !== 200) return { status, text };
      const [type, name] = [query.get("type") ?? "", query.get("name") ?? ""];
      return {
        json: resourcesIn(JSON.parse(text)).filter((one) => one.type.includes(type) && one.name.includes(name)),
      };
    },
  };
}
