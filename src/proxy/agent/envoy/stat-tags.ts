import type { JsonObject } from "@bufbuild/protobuf";

/**
 * What may follow a cluster's name in the name of a counter. Names of clusters have dots, as have counters, so where one
 * ends is known by how the other begins: with a word that no label of a host name can be, since it has an underscore, or
 * that stands at the very end.
 */
const afterCluster = [
  "upstream_",
  "(?:internal|external|canary)\\.upstream_",
  "circuit_breakers\\.",
  "membership_",
  "lb_",
  "update_",
  "assignment_",
  "bind_errors$",
  "max_host_weight$",
  "retry_or_shadow_abandoned$",
  "retry\\.upstream_",
  "original_dst_",
  "outlier_detection\\.",
  "health_check\\.(?:attempt|success|failure|passive_failure|network_failure|verify_cluster|healthy|degraded)$",
  "http[123]\\.[a-z]+_",
  "http2\\.trailers$",
  "init_fetch_",
  "warming_state$",
  "version(?:_text)?$",
  "default\\.total_match_count$",
  "client_ssl_socket_factory\\.",
  "ssl\\.(?:[a-z]+_[a-z_]+|handshake)$",
  "ssl\\.(?:ciphers|curves|sigalgs|versions|certificate)\\.[^.]+(?:\\.expiration_unix_time_seconds)?$",
].join("|");

const afterHttp =
  "downstream_|rq_|rs_|no_|passthrough_|user_agent\\.|rds\\.|tracing\\.[a-z_]+$|fault\\.|cors\\.[a-z_]+$";

/** The part of a counter's name that becomes a label, in the second group; the first is what is cut out. */
export const ownTags = {
  "envoy.cluster_name": `^cluster\\.((.+?)\\.)(?:${afterCluster})`,
  "envoy.http_conn_manager_prefix": `^http\\.((.+?)\\.)(?:${afterHttp})`,
  "envoy.rds_route_config": "^http\\..+?\\.rds\\.((.+?)\\.)\\w+$",
} as const;

/** Taken as Envoy finds them. */
const itsOwn = [
  "response_code",
  "response_code_class",
  "listener_address",
  "http_user_agent",
  "worker_id",
  "tcp_prefix",
  "virtual_host",
  "virtual_cluster",
  "ssl_cipher",
  "fault_downstream_cluster",
];

/** How Envoy is to make labels of its counters' names: by itself it takes a cluster's name to end at its first dot. */
export const statTags: JsonObject = {
  useAllDefaultTags: false,
  statsTags: [
    ...itsOwn.map((name) => ({ tagName: `envoy.${name}` })),
    ...Object.entries(ownTags).map(([tagName, regex]) => ({ tagName, regex })),
  ],
};
