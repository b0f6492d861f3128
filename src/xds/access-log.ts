import type { JsonObject } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { type AccessLog, AccessLogSchema } from "../proto/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import { FileAccessLogSchema } from "../proto/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { extension } from "./typed.ts";

/** What a connection tells, whatever is spoken on it. */
const connectionFields = {
  start_time: "%START_TIME%",
  duration: "%DURATION%",
  bytes_received: "%BYTES_RECEIVED%",
  bytes_sent: "%BYTES_SENT%",
  response_flags: "%RESPONSE_FLAGS%",
  response_code_details: "%RESPONSE_CODE_DETAILS%",
  connection_termination_details: "%CONNECTION_TERMINATION_DETAILS%",
  upstream_transport_failure_reason: "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
  upstream_cluster: "%UPSTREAM_CLUSTER%",
  leaves_by: "%CLUSTER_METADATA(isthmus:leaves_by)%",
  upstream_host: "%UPSTREAM_HOST%",
  upstream_local_address: "%UPSTREAM_LOCAL_ADDRESS%",
  upstream_peer_uri_san: "%UPSTREAM_PEER_URI_SAN%",
  downstream_local_address: "%DOWNSTREAM_LOCAL_ADDRESS%",
  downstream_remote_address: "%DOWNSTREAM_REMOTE_ADDRESS%",
  downstream_peer_uri_san: "%DOWNSTREAM_PEER_URI_SAN%",
  downstream_local_uri_san: "%DOWNSTREAM_LOCAL_URI_SAN%",
  downstream_tls_version: "%DOWNSTREAM_TLS_VERSION%",
  requested_server_name: "%REQUESTED_SERVER_NAME%",
  attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
} as const;

/** What a request tells beyond its connection. */
const requestFields = {
  method: "%REQ(:METHOD)%",
  path: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
  authority: "%REQ(:AUTHORITY)%",
  protocol: "%PROTOCOL%",
  response_code: "%RESPONSE_CODE%",
  route_name: "%ROUTE_NAME%",
  x_request_id: "%REQ(X-REQUEST-ID)%",
  user_agent: "%REQ(USER-AGENT)%",
} as const;

const made = new Map<string, AccessLog>();

/** JSON lines on standard output. No operator names the listener, so its name stands in the format as it is. */
export function accessLog(listener: string, of: "connections" | "requests"): AccessLog {
  const key = `${of} ${listener}`;
  const known = made.get(key);
  if (known) return known;
  const format: JsonObject = { listener, ...connectionFields, ...(of === "requests" ? requestFields : {}) };
  const log = create(
    AccessLogSchema,
    extension("envoy.access_loggers.file", FileAccessLogSchema, {
      path: "/dev/stdout",
      accessLogFormat: { case: "logFormat", value: { format: { case: "jsonFormat", value: format } } },
    }),
  );
  // Listeners come and go with ports and addresses; a small memory of them is enough.
  if (made.size > 1000) made.clear();
  made.set(key, log);
  return log;
}
