import { type ServiceError, status } from "@grpc/grpc-js";
import { Failure, type FailureOptions } from "../../base/index.ts";

/** gRPC's status codes that are errors, in our spelling: `grpc/<this>` is the code of the `Failure`. */
const statusNumbers = {
  cancelled: status.CANCELLED,
  unknown: status.UNKNOWN,
  "invalid-argument": status.INVALID_ARGUMENT,
  "deadline-exceeded": status.DEADLINE_EXCEEDED,
  "not-found": status.NOT_FOUND,
  "already-exists": status.ALREADY_EXISTS,
  "permission-denied": status.PERMISSION_DENIED,
  "resource-exhausted": status.RESOURCE_EXHAUSTED,
  "failed-precondition": status.FAILED_PRECONDITION,
  aborted: status.ABORTED,
  "out-of-range": status.OUT_OF_RANGE,
  unimplemented: status.UNIMPLEMENTED,
  internal: status.INTERNAL,
  unavailable: status.UNAVAILABLE,
  "data-loss": status.DATA_LOSS,
  unauthenticated: status.UNAUTHENTICATED,
} as const;

export type GrpcStatus = keyof typeof statusNumbers;

const statusByNumber = new Map<number, GrpcStatus>(
  Object.entries(statusNumbers).map(([name, number]) => [number, name as GrpcStatus]),
);

/** Longest message that goes over the wire: trailers share the peer's limit on header bytes. */
const longestMessage = 2048;

/** The failure that a handler throws to answer with this status; its message and hint are what the caller reads. */
export function grpcFailure(name: GrpcStatus, message: string, options?: FailureOptions): Failure {
  return new Failure(`grpc/${name}`, message, options);
}

/** The status of a failure that came from a call or is meant as an answer; undefined for any other. */
export function grpcStatusOf(failure: unknown): GrpcStatus | undefined {
  if (!(failure instanceof Failure) || !failure.code.startsWith("grpc/")) return undefined;
  const name = failure.code.slice("grpc/".length);
  return name in statusNumbers ? (name as GrpcStatus) : undefined;
}

/** What a call failed with, as a `Failure` with the code `grpc/<status>` and the server's own words as message. */
export function failureFromCall(caught: unknown, where: string): Failure {
  if (caught instanceof Failure) return caught;
  const { code, details, message } = caught as Partial<ServiceError>;
  const name = typeof code === "number" ? statusByNumber.get(code) : undefined;
  const text = details || message || String(caught);
  return new Failure(`grpc/${name ?? "unknown"}`, `${where}: ${text}`, { cause: caught });
}

/**
 * A failure as the status that a peer gets. Only failures meant as an answer (`grpcFailure`) show their message;
 * anything else is ours alone: the peer learns that there was an error, and its code at most.
 */
export function statusFromFailure(caught: unknown): { readonly code: number; readonly details: string } {
  const name = grpcStatusOf(caught);
  if (name !== undefined) {
    const { message, hint } = caught as Failure;
    return { code: statusNumbers[name], details: wireText(hint === undefined ? message : `${message} [${hint}]`) };
  }
  return {
    code: status.INTERNAL,
    details: caught instanceof Failure ? `internal error (${caught.code})` : "internal error",
  };
}

/** Text that `encodeURI` takes (it throws at half a surrogate pair), of bounded length. */
function wireText(text: string): string {
  const cut = text.length > longestMessage ? `${text.slice(0, longestMessage)}…` : text;
  return cut.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd");
}
