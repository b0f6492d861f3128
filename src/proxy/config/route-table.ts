import type {
  Route as RouteMessage,
  VirtualHost as VirtualHostMessage,
} from "../../proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "../../proto/gen/envoy/config/route/v3/route_pb.js";
import { headerChanges } from "./header-changes.ts";
import { readCors, readFilters } from "./http-filters.ts";
import type { Place } from "./reading.ts";
import { readRetry } from "./retry-policy.ts";
import type { CorsPolicy, HeaderChanges, RetryPolicy, Route, RouteTable, VirtualHost } from "./route.ts";
import { readAction } from "./route-action.ts";
import { readMatch } from "./route-match.ts";

/** Reads a whole route configuration; undefined after refusals. */
export function readRouteConfiguration(message: RouteConfiguration, place: Place): RouteTable | undefined {
  if (message.vhds) place.field("vhds").refuse("is not known; the virtual hosts must be in the message");
  if (message.clusterSpecifierPlugins.length > 0) place.field("cluster_specifier_plugins").refuse("are not known");
  const outerRequest = headerChanges(message.requestHeadersToAdd, message.requestHeadersToRemove, place, "request");
  const outerResponse = headerChanges(message.responseHeadersToAdd, message.responseHeadersToRemove, place, "response");
  const exact = new Map<string, VirtualHost>();
  const suffixes: Array<readonly [string, VirtualHost]> = [];
  const prefixes: Array<readonly [string, VirtualHost]> = [];
  let any: VirtualHost | undefined;
  const seen = new Set<string>();
  const names = new Set<string>();
  const longestBody = message.maxDirectResponseBodySizeBytes ?? 4096;
  const virtualHosts = message.virtualHosts.map((host, index) => {
    const at = place.field("virtual_hosts").item(index);
    if (host.name === "") at.field("name").refuse("is missing");
    if (names.has(host.name)) at.field("name").refuse(`"${host.name}" is there twice`);
    names.add(host.name);
    const read = readVirtualHost(host, at, { outerRequest, outerResponse, longestBody });
    if (host.domains.length === 0) at.field("domains").refuse("is empty");
    for (const [number, given] of host.domains.entries()) {
      const domain = given.toLowerCase();
      const where = at.field("domains").item(number);
      if (seen.has(domain)) where.refuse(`"${given}" is there twice; a domain belongs to one virtual host`);
      seen.add(domain);
      if (domain === "*") any = read;
      else if (domain.startsWith("*")) suffixes.push([domain.slice(1), read]);
      else if (domain.endsWith("*")) prefixes.push([domain.slice(0, -1), read]);
      else if (domain === "") where.refuse("is empty");
      else exact.set(domain, read);
    }
    return read;
  });
  const longestFirst = (a: readonly [string, VirtualHost], b: readonly [string, VirtualHost]) =>
    b[0].length - a[0].length;
  return {
    name: message.name,
    virtualHosts,
    exact,
    suffixes: suffixes.sort(longestFirst),
    prefixes: prefixes.sort(longestFirst),
    any,
    ignorePort: message.ignorePortInHostMatching,
  };
}

function readVirtualHost(
  message: VirtualHostMessage,
  place: Place,
  table: Pick<Shared, "outerRequest" | "outerResponse" | "longestBody">,
): VirtualHost {
  if (message.matcher) place.field("matcher").refuse("is not known; use routes");
  if (message.requireTls !== 0) place.field("require_tls").refuse("is not known; use a redirect");
  if (message.rateLimits.length > 0) place.field("rate_limits").refuse("are not known");
  const shared = {
    virtualHost: message.name,
    requestHeaders: headerChanges(message.requestHeadersToAdd, message.requestHeadersToRemove, place, "request"),
    responseHeaders: headerChanges(message.responseHeadersToAdd, message.responseHeadersToRemove, place, "response"),
    cors: message.cors ? readCors(message.cors, place.field("cors")) : undefined,
    retry: message.retryPolicy ? readRetry(message.retryPolicy, place.field("retry_policy")) : undefined,
    filters: readFilters(message.typedPerFilterConfig, place),
    ...table,
  };
  return {
    name: message.name,
    routes: message.routes.flatMap((route, index) => readRoute(route, place.field("routes").item(index), shared) ?? []),
    includeAttemptCount: message.includeRequestAttemptCount,
    includeAttemptCountInResponse: message.includeAttemptCountInResponse,
  };
}

interface Shared {
  readonly virtualHost: string;
  readonly requestHeaders: HeaderChanges;
  readonly responseHeaders: HeaderChanges;
  readonly cors: CorsPolicy | undefined;
  readonly retry: RetryPolicy | undefined;
  readonly filters: ReturnType<typeof readFilters>;
  readonly outerRequest: HeaderChanges;
  readonly outerResponse: HeaderChanges;
  readonly longestBody: number;
}

function readRoute(message: RouteMessage, place: Place, shared: Shared): Route | undefined {
  const match = readMatch(message, place.field("match"));
  const action = readAction(message, place, shared);
  const filters = readFilters(message.typedPerFilterConfig, place);
  const requestHeaders = headerChanges(message.requestHeadersToAdd, message.requestHeadersToRemove, place, "request");
  const responseHeaders = headerChanges(
    message.responseHeadersToAdd,
    message.responseHeadersToRemove,
    place,
    "response",
  );
  const legacy = message.action.case === "route" ? message.action.value.cors : undefined;
  if (!match || !action) return undefined;
  return {
    name: message.name,
    virtualHost: shared.virtualHost,
    match,
    action,
    requestHeaders: [...requestHeaders, ...shared.requestHeaders, ...shared.outerRequest],
    responseHeaders: [...responseHeaders, ...shared.responseHeaders, ...shared.outerResponse],
    cors:
      filters.cors ??
      (legacy ? readCors(legacy, place.field("route").field("cors")) : undefined) ??
      shared.filters.cors ??
      shared.cors,
    fault: filters.fault ?? shared.filters.fault,
  };
}
