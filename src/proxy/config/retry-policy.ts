import type { RetryPolicy as RetryMessage } from "../../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { PreviousPrioritiesConfigSchema } from "../../proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { isPacked } from "../../proto/index.ts";
import { type Place, readAny, readDuration } from "./reading.ts";
import { type RetryCondition, type RetryPolicy, retryConditions } from "./route.ts";
import { readHeaderMatch } from "./route-match.ts";

/** When a request is tried again. Refuses conditions that nobody knows. */
export function readRetry(message: RetryMessage, place: Place): RetryPolicy {
  const on = new Set<RetryCondition>();
  const statuses = new Set(message.retriableStatusCodes);
  for (const word of message.retryOn.split(",").map((part) => part.trim())) {
    if (word === "") continue;
    const known = retryConditions.find((condition) => condition === word);
    if (known) on.add(known);
    else if (/^[1-5][0-9][0-9]$/.test(word)) {
      on.add("retriable-status-codes");
      statuses.add(Number(word));
    } else place.field("retry_on").refuse(`"${word}" is no condition; there are ${retryConditions.join(", ")}`);
  }
  const previous = "previous_hosts";
  for (const [index, predicate] of message.retryHostPredicate.entries()) {
    if (!predicate.name.endsWith(previous))
      place.field("retry_host_predicate").item(index).refuse(`"${predicate.name}" is not known; there is ${previous}`);
  }
  const back = place.field("retry_back_off");
  const firstMs = Math.max(1, readDuration(message.retryBackOff?.baseInterval, 25, back.field("base_interval")));
  return {
    on,
    retries: message.numRetries ?? 1,
    statuses,
    perTryTimeoutMs: readDuration(message.perTryTimeout, 0, place.field("per_try_timeout")),
    avoidPreviousHosts: message.retryHostPredicate.some(({ name }) => name.endsWith(previous)),
    leavePriorityAfter: readPriorities(message, place),
    backoff: {
      firstMs,
      maxMs: readDuration(message.retryBackOff?.maxInterval, firstMs * 10, back.field("max_interval")),
    },
    headers: message.retriableHeaders.flatMap(
      (header, index) => readHeaderMatch(header, place.field("retriable_headers").item(index)) ?? [],
    ),
  };
}

function readPriorities({ retryPriority: given }: RetryMessage, place: Place): number | undefined {
  if (!given) return undefined;
  const at = place.field("retry_priority");
  const typed = given.configType.value;
  if (!isPacked(typed, PreviousPrioritiesConfigSchema))
    return at.refuse(`"${given.name}" is not known; there is previous_priorities`);
  const every = readAny(typed, PreviousPrioritiesConfigSchema, at.field("typed_config"))?.updateFrequency ?? 0;
  return every > 0 ? every : at.field("typed_config.update_frequency").refuse("must be at least 1");
}
