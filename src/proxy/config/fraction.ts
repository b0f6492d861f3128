import type { FractionalPercent } from "../../proto/gen/envoy/type/v3/percent_pb.js";

/** A share from 0 to 1; nothing given is 0. */
export function readFraction(message: FractionalPercent | undefined): number {
  if (!message) return 0;
  return Math.min(1, message.numerator / ([100, 10_000, 1_000_000][message.denominator] ?? 100));
}
