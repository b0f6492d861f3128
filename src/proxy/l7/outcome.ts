import type { Outcome } from "../upstream/upstream.ts";
import { type Headers, headerValue } from "./headers.ts";

/** How an endpoint did, from its answer. For gRPC the status stands in a field when there is no body. */
export function outcomeOf(status: number, headers: Headers): Outcome {
  if (status >= 500) return status === 502 || status === 503 || status === 504 ? "gateway-error" : "server-error";
  if (status !== 200) return status === 409 ? "cancelled" : "success";
  const grpc = headerValue(headers, "grpc-status");
  if (grpc === undefined || grpc === "0") return "success";
  return grpc === "14" ? "gateway-error" : "server-error";
}
