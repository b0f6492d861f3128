import type { ServicePort } from "../model/index.ts";
import type { HealthCheckSchema } from "../proto/gen/envoy/config/core/v3/health_check_pb.js";
import { CodecClientType } from "../proto/gen/envoy/type/v3/http_pb.js";
import type { HealthCheck } from "../resources/index.ts";
import { type Hostname, isHttp, isHttp2 } from "../values/index.ts";
import { type Fields, milliseconds } from "./typed.ts";

/** Whether a port is asked: the one that is named, else each that speaks what is asked. */
export function isAsked(check: HealthCheck | undefined, port: ServicePort): check is HealthCheck {
  if (!check) return false;
  if (check.port !== undefined) return check.port === port.number;
  if (check.http) return isHttp(port.protocol);
  return check.grpc ? isHttp2(port.protocol) : true;
}

/** The question as a cluster puts it to each of its endpoints. */
export function questionOf(
  check: HealthCheck,
  { port, host }: { readonly port: ServicePort; readonly host: Hostname },
): Fields<typeof HealthCheckSchema> {
  const interval = milliseconds(check.interval);
  return {
    interval,
    // Who is not called now may be called next: an idle service is asked as often as a busy one.
    noTrafficInterval: interval,
    timeout: milliseconds(check.timeout),
    unhealthyThreshold: check.unhealthyThreshold,
    healthyThreshold: check.healthyThreshold,
    healthChecker: check.http
      ? {
          case: "httpHealthCheck",
          value: {
            host: check.http.host ?? host,
            path: check.http.path,
            // What Kubernetes takes for well.
            expectedStatuses: [{ start: 200n, end: 400n }],
            codecClientType: isHttp2(port.protocol) ? CodecClientType.HTTP2 : CodecClientType.HTTP1,
          },
        }
      : check.grpc
        ? { case: "grpcHealthCheck", value: { serviceName: check.grpc.service, authority: host } }
        : { case: "tcpHealthCheck", value: {} },
  };
}
