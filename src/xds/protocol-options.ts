import type { Any } from "@bufbuild/protobuf/wkt";
import { HttpProtocolOptionsSchema } from "../proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { milliseconds, typed } from "./typed.ts";

/** What is spoken to a server: one version of HTTP, or whatever the caller speaks. */
export type Speak = "http1" | "http2" | "downstream";

const key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const http2 = { maxConcurrentStreams: 1_073_741_824 };

/** The typed protocol options of a cluster. */
export function httpProtocols(options: {
  readonly speak: Speak;
  readonly maxRequestsPerConnection?: number | undefined;
  readonly idleTimeoutMs?: number | undefined;
}): Record<string, Any> {
  const { speak, maxRequestsPerConnection, idleTimeoutMs } = options;
  return {
    [key]: typed(HttpProtocolOptionsSchema, {
      ...(maxRequestsPerConnection === undefined && idleTimeoutMs === undefined
        ? {}
        : {
            commonHttpProtocolOptions: {
              ...(maxRequestsPerConnection ? { maxRequestsPerConnection } : {}),
              ...(idleTimeoutMs === undefined ? {} : { idleTimeout: milliseconds(idleTimeoutMs) }),
            },
          }),
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
