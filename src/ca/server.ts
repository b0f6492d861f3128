import { create } from "@bufbuild/protobuf";
import { type GrpcStatus, grpcFailure, type Implementation, implement } from "../ads/index.ts";
import { type Clock, Failure, type Logger, type Metrics } from "../base/index.ts";
import { IstioCertificateResponseSchema, IstioCertificateService } from "../proto/gen/isthmus/ca/v1/ca_pb.js";
import type { SpiffeId } from "../values/index.ts";
import type { Authority, Issued } from "./authority.ts";
import type { Callers } from "./callers.ts";
import { RateLimit, Turnstile } from "./turnstile.ts";

export interface CsrLimits {
  /** Requests that may wait for their turn; 5,000. */
  readonly waiting?: number;
  /** Certificates of one identity at once, and then a second: 500 and 50. Many pods may share one identity. */
  readonly burstPerIdentity?: number;
  readonly perSecondPerIdentity?: number;
}

/** How a request ended, for the metric's label. */
type Outcome = "signed" | "unauthenticated" | "invalid" | "limited" | "failed";

/**
 * `istio.v1.auth.IstioCertificateService/CreateCertificate` for a gRPC server of `ads`. Answers UNAUTHENTICATED,
 * INVALID_ARGUMENT (the request is unfit), RESOURCE_EXHAUSTED or UNAVAILABLE (come again), INTERNAL (we failed).
 */
export function certificateService(deps: {
  readonly authority: Authority;
  readonly callers: Callers;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly limits?: CsrLimits;
}): Implementation {
  const { authority, callers, clock, log, limits = {} } = deps;
  const turnstile = new Turnstile(limits.waiting ?? 5_000);
  const rate = new RateLimit<SpiffeId>({
    burst: limits.burstPerIdentity ?? 500,
    perSecond: limits.perSecondPerIdentity ?? 50,
    keys: 10_000,
  });
  const requests = deps.metrics.counter("isthmus_ca_requests_total", "Certificate requests, by how they ended.", [
    "outcome",
  ]);
  const ended = (outcome: Outcome) => requests.inc({ outcome });

  return implement(IstioCertificateService, {
    async createCertificate(request, call) {
      const evidence = {
        certificate: call.caller.certificate?.der,
        authorization: call.metadata("authorization"),
      };
      const caller = await callers.identify(evidence).catch((cause: unknown) => {
        // Who is asking may well be who it says: it is to come again, and not to despair.
        ended("failed");
        log.warn(
          { err: cause, address: call.caller.address },
          "certificate request put off: its token cannot be checked",
        );
        throw grpcFailure("unavailable", `who is asking cannot be told now: ${Failure.from(cause).message}`, {
          hint: "come again",
          cause,
        });
      });
      if (!caller.ok) {
        ended("unauthenticated");
        log.warn(
          { address: call.caller.address, reason: caller.reason },
          "certificate request refused: caller unknown",
        );
        throw grpcFailure("unauthenticated", `who is asking could not be told: ${caller.reason}`);
      }
      const { identity } = caller;
      if (!rate.take(identity, clock.monotonic())) {
        ended("limited");
        log.warn({ identity, address: call.caller.address }, "certificate request refused: too many of one identity");
        throw grpcFailure("resource-exhausted", `too many certificate requests of "${identity}"`, {
          hint: "come again",
        });
      }
      let issued: Issued;
      try {
        const wishMs = Number(request.validityDuration) * 1000;
        issued = await turnstile.run(() => authority.sign(request.csr, identity, wishMs), call.signal);
      } catch (caught) {
        const { outcome, status } = refusal(caught);
        ended(outcome);
        if (outcome === "failed") log.error({ err: caught, identity }, "certificate request failed");
        else log.warn({ err: caught, identity, address: call.caller.address }, "certificate request refused");
        if (status === undefined) throw caught;
        const { message, hint } = caught as Failure;
        throw grpcFailure(status, message, { cause: caught, ...(hint === undefined ? {} : { hint }) });
      }
      ended("signed");
      log.info({ identity, by: caller.by, notAfter: new Date(issued.notAfter).toISOString() }, "certificate signed");
      return create(IstioCertificateResponseSchema, {
        certChain: [issued.certificate, ...issued.intermediates, issued.roots],
      });
    },
  });
}

function refusal(caught: unknown): { readonly outcome: Outcome; readonly status: GrpcStatus | undefined } {
  if (!(caught instanceof Failure)) return { outcome: "failed", status: undefined };
  switch (caught.code) {
    case "ca/csr-malformed":
    case "ca/csr-signature":
    case "ca/weak-key":
      return { outcome: "invalid", status: "invalid-argument" };
    case "ca/foreign-caller":
      return { outcome: "unauthenticated", status: "unauthenticated" };
    case "ca/busy":
      return { outcome: "limited", status: "unavailable" };
    case "ca/expired":
      return { outcome: "failed", status: "unavailable" };
    default:
      return { outcome: "failed", status: caught.code.startsWith("grpc/") ? undefined : "internal" };
  }
}
