import { z } from "zod";
import { type Hostname, type Ip, parseHostname, parseIp } from "../../values/index.ts";
import {
  anyCaseLabel,
  cidr,
  duration,
  flag,
  labelMap,
  parsed,
  percentage,
  plainHostname,
  portNumber,
  rule,
  text,
  textMap,
  whole,
} from "../schema.ts";
import { exportTo } from "./export-to.ts";
import { judgeHttpRule, judgeStringMatch, judgeVirtualService } from "./virtual-service-rules.ts";

/** What a VirtualService is about: a name (perhaps short, perhaps with a wildcard), an address, or everything. */
export type RouteHost = Hostname | Ip | "*";

const routeHost = parsed(
  'a DNS name, a wildcard such as "*.example.com", or an IP address',
  "ISM0306",
  (written): RouteHost | undefined => (written === "*" ? "*" : (parseIp(written) ?? parseHostname(written))),
);

/** Exactly one is set; a regex covers the whole string. An empty match (as a header's) means: is there. */
const stringMatch = rule(
  z.strictObject({ exact: text.optional(), prefix: text.optional(), regex: text.optional() }),
  ["exact", "prefix", "regex"],
  judgeStringMatch,
);
const headerChange = z.strictObject({
  set: textMap.default({}),
  add: textMap.default({}),
  remove: z.array(text).default([]),
});
const headerChanges = z.strictObject({ request: headerChange.optional(), response: headerChange.optional() });

const destination = z.strictObject({
  host: plainHostname,
  subset: anyCaseLabel.optional(),
  port: z.strictObject({ number: portNumber }).optional(),
});

/** Weights as written; the only destination of a route gets all of it, whatever it says. */
const weighted = <T extends { weight: number }>(routes: T[]): T[] =>
  routes.length === 1 ? [{ ...routes[0]!, weight: 100 }] : routes;

const httpRoute = z.strictObject({
  destination,
  weight: whole(0, 2 ** 31 - 1).default(0),
  headers: headerChanges.optional(),
});
const tcpRoute = z.strictObject({ destination, weight: whole(0, 2 ** 31 - 1).default(0) });

const sourceMatch = {
  port: portNumber.optional(),
  sourceLabels: labelMap.default({}),
  sourceNamespace: text.default(""),
  gateways: z.array(text).default([]),
};

const httpMatch = z.strictObject({
  name: text.default(""),
  uri: stringMatch.optional(),
  scheme: stringMatch.optional(),
  method: stringMatch.optional(),
  authority: stringMatch.optional(),
  headers: z.record(z.string(), stringMatch).default({}),
  withoutHeaders: z.record(z.string(), stringMatch).default({}),
  queryParams: z.record(z.string(), stringMatch).default({}),
  ignoreUriCase: flag.default(false),
  statPrefix: text.default(""),
  ...sourceMatch,
});

const fault = z.strictObject({
  delay: z
    .strictObject({
      fixedDelay: duration.optional(),
      exponentialDelay: text.optional(),
      percentage: percentage.optional(),
      percent: whole(0, 100).optional(),
    })
    .optional(),
  abort: z
    .strictObject({
      httpStatus: whole(200, 600).optional(),
      grpcStatus: text.optional(),
      http2Error: text.optional(),
      percentage: percentage.optional(),
    })
    .optional(),
});

const corsPolicy = z.strictObject({
  allowOrigins: z.array(stringMatch).default([]),
  allowOrigin: z.array(text).default([]),
  allowMethods: z.array(text).default([]),
  allowHeaders: z.array(text).default([]),
  exposeHeaders: z.array(text).default([]),
  maxAge: duration.optional(),
  allowCredentials: flag.optional(),
  unmatchedPreflights: z.enum(["UNSPECIFIED", "FORWARD", "IGNORE"]).default("UNSPECIFIED"),
});

const httpRuleFields = z.strictObject({
  name: text.default(""),
  match: z.array(httpMatch).default([]),
  route: z.array(httpRoute).transform(weighted).default([]),
  redirect: z
    .strictObject({
      uri: text.optional(),
      prefixRewrite: text.optional(),
      authority: text.optional(),
      port: portNumber.optional(),
      derivePort: z.enum(["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"]).optional(),
      scheme: text.optional(),
      /** 0 means 301. */
      redirectCode: z
        .int()
        .refine((code) => [0, 301, 302, 303, 307, 308].includes(code), { error: "must be 301, 302, 303, 307 or 308" })
        .transform((code) => code || 301)
        .default(301),
    })
    .optional(),
  directResponse: z
    .strictObject({
      status: whole(200, 599),
      body: z.strictObject({ string: text.optional(), bytes: text.optional() }).optional(),
    })
    .optional(),
  delegate: z.strictObject({ name: text, namespace: text.default("") }).optional(),
  rewrite: z
    .strictObject({
      uri: text.optional(),
      authority: text.optional(),
      uriRegexRewrite: z.strictObject({ match: text, rewrite: text }).optional(),
    })
    .optional(),
  timeout: duration.optional(),
  retries: z
    .strictObject({
      attempts: whole(0, 1000).default(0),
      perTryTimeout: duration.optional(),
      retryOn: text.optional(),
      retryRemoteLocalities: flag.optional(),
      retryIgnorePreviousHosts: flag.optional(),
      backoff: duration.optional(),
    })
    .optional(),
  fault: fault.optional(),
  mirror: destination.optional(),
  mirrorPercent: whole(0, 100).optional(),
  mirrorPercentage: percentage.optional(),
  mirrors: z.array(z.strictObject({ destination, percentage: percentage.optional() })).default([]),
  corsPolicy: corsPolicy.optional(),
  headers: headerChanges.optional(),
});

/** Every rule of an HTTP route sees it only when all of its fields could be read: they belong together. */
const httpRule = rule(httpRuleFields, httpRuleFields.keyof().options, judgeHttpRule);

const tlsRule = z.strictObject({
  match: z
    .array(
      z.strictObject({
        sniHosts: z.array(routeHost).min(1),
        destinationSubnets: z.array(cidr).default([]),
        ...sourceMatch,
      }),
    )
    .min(1),
  route: z.array(tcpRoute).min(1).transform(weighted),
});

const tcpRule = z.strictObject({
  match: z
    .array(
      z.strictObject({ destinationSubnets: z.array(cidr).default([]), sourceSubnet: text.optional(), ...sourceMatch }),
    )
    .default([]),
  route: z.array(tcpRoute).min(1).transform(weighted),
});

const fields = z.strictObject({
  /** Without any it is a delegate: other VirtualServices hand requests to it. */
  hosts: z.array(routeHost).default([]),
  /** `mesh` is the sidecars; else the name of a Gateway, perhaps with its namespace in front. */
  gateways: z.array(text).default(["mesh"]),
  http: z.array(httpRule).default([]),
  tls: z.array(tlsRule).default([]),
  tcp: z.array(tcpRule).default([]),
  exportTo,
});

const spec = judgeVirtualService.reduce((schema, { needs, judge }) => rule(schema, [...needs], judge), fields);

export type VirtualServiceFields = z.output<typeof fields>;
export type HttpRuleFields = z.output<typeof httpRuleFields>;
export type StringMatchFields = { exact?: string | undefined; prefix?: string | undefined; regex?: string | undefined };

export const virtualService = z.object({ spec, status: z.unknown().optional() });
