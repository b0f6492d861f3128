import type { Metrics } from "../base/index.ts";
import type { Refusal } from "./inbound.ts";
import type { ResponseFlag } from "./l4/access-log.ts";

/** What the proxy counts of connections. Labels are names of the configuration and words of ours, never a caller's. */
export function proxyMetrics(metrics: Metrics) {
  const accepted = metrics.counter("isthmus_proxy_connections_total", "Connections accepted.", ["listener"]);
  const active = metrics.gauge("isthmus_proxy_connections_active", "Connections being served.", ["listener"]);
  const refused = metrics.counter("isthmus_proxy_connections_refused_total", "Connections turned away, by reason.", [
    "listener",
    "reason",
  ]);
  const shed = metrics.counter("isthmus_proxy_connections_shed_total", "Connections closed unseen for want of room.", [
    "reason",
  ]);
  const bytes = metrics.counter("isthmus_proxy_tcp_bytes_total", "Bytes passed on by TCP proxies.", [
    "listener",
    "direction",
  ]);
  const failed = metrics.counter("isthmus_proxy_tcp_failures_total", "TCP connections that ended badly, by flag.", [
    "listener",
    "flag",
  ]);
  const configRefused = metrics.counter("isthmus_proxy_config_refused_total", "Configuration resources refused.", [
    "type",
  ]);
  return {
    accepted: (listener: string) => accepted.inc({ listener }),
    active: (listener: string, by: 1 | -1) => active.inc({ listener }, by),
    refused: (listener: string, reason: Refusal) => refused.inc({ listener, reason }),
    shed: (reason: string) => shed.inc({ reason }),
    tcp: (
      listener: string,
      result: { readonly received: number; readonly sent: number; readonly flag: ResponseFlag | undefined },
    ) => {
      bytes.inc({ listener, direction: "received" }, result.received);
      bytes.inc({ listener, direction: "sent" }, result.sent);
      if (result.flag) failed.inc({ listener, flag: result.flag });
    },
    configRefused: (type: string, count: number) => configRefused.inc({ type }, count),
  };
}
