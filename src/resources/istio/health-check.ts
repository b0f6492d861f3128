import { z } from "zod";
import { duration, portNumber, rule, text, whole } from "../schema.ts";
import { type AnnotationReader, yamlAnnotation } from "./annotation.ts";

/**
 * Stands on a DestinationRule, because that is where it is said how callers of a host treat its endpoints, for whom, and
 * in which namespace; the dialect has no field for it there, and a strict reader elsewhere takes the object all the same.
 */
export const healthCheckAnnotation = "networking.isthmus.dev/health-check";

/** RFC 3986 §3.3 and §3.4, without a fragment. */
const requestPath = /^\/[!-"$-~]*$/;
const authority = /^[A-Za-z0-9._[\]:-]+$/;

const fields = z.strictObject({
  http: z
    .strictObject({
      path: text.regex(requestPath, 'must begin with "/" and hold no spaces or "#"'),
      /** The authority of the question; the host of the rule unless said otherwise. */
      host: text.regex(authority, "must be a host name, perhaps with a port").optional(),
    })
    .optional(),
  tcp: z.strictObject({}).optional(),
  grpc: z.strictObject({ service: text.default("") }).optional(),
  /** The service port that is asked; by default each that speaks what is asked. */
  port: portNumber.optional(),
  interval: duration.default(10_000),
  timeout: duration.default(1_000),
  unhealthyThreshold: whole(1, 1000).default(3),
  healthyThreshold: whole(1, 1000).default(1),
});

const schema = rule(fields, ["http", "tcp", "grpc"], (value, report) => {
  const kinds = (["http", "tcp", "grpc"] as const).filter((kind) => value[kind] !== undefined);
  if (kinds.length !== 1) report(kinds.slice(1, 2), "ISM0609", "must ask in exactly one way: http, tcp or grpc");
});

/** How endpoints are asked whether they are well; times in milliseconds. */
export type HealthCheck = z.output<typeof fields>;

export const healthCheck: AnnotationReader<HealthCheck> = yamlAnnotation(healthCheckAnnotation, schema);
