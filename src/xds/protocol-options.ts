import type { Any } from "@bufbuild/protobuf/wkt";
import { HttpProtocolOptionsSchema } from "../proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { milliseconds, typed } from "./typed.ts";

/** What is spoken to a server: one version of HTTP, or whatever the caller speaks. */
export type Speak = "http1" | "http2" | "downstream";

const key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const mostStreams = 1_073_741_824;

/** The typed protocol options of a cluster. */
export function httpProtocols(options: {
  readonly speak: Speak;
  readonly maxRequestsPerConnection?: number | undefined;
  readonly maxConcurrentStreams?: number | undefined;
  readonly idleTimeoutMs?: number | undefined;
  readonly maxDurationMs?: number | undefined;
}): Record<string, Any> {
  const { speak, maxRequestsPerConnection, maxConcurrentStreams, idleTimeoutMs, maxDurationMs } = options;
  const http2 = { maxConcurrentStreams: maxConcurrentStreams || mostStreams };
  const common = {
    ...(maxRequestsPerConnection ? { maxRequestsPerConnection } : {}),
    ...(idleTimeoutMs === undefined ? {} : { idleTimeout: milliseconds(idleTimeoutMs) }),
    ...(maxDurationMs === undefined ? {} : { maxConnectionDuration: milliseconds(maxDurationMs) }),
  };
  return {
    [key]: typed(HttpProtocolOptionsSchema, {
      ...(Object.keys(common).length > 0 ? { commonHttpProtocolOptions: common } : {}),
      upstreamProtocolOptions:
        speak === "downstream"
          ? { case: "useDownstreamProtocolConfig", value: { httpProtocolOptions: {}, http2ProtocolOptions: http2 } }
          : {
              case: "explicitHttpConfig",
              value: {
                protocolConfig:
                  speak === "http2"
                    ? { case: "http2ProtocolOptions", value: http2 }
                    : { case: "httpProtocolOptions", value: {} },
              },
            },
    }),
  };
}
