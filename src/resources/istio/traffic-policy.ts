import { z } from "zod";
import { count, duration, durationOrZero, flag, percentValue, portNumber, text, whole } from "../schema.ts";

const consistentHash = z.strictObject({
  httpHeaderName: text.optional(),
  httpCookie: z.strictObject({ name: text, path: text.default(""), ttl: durationOrZero }).optional(),
  useSourceIp: flag.optional(),
  httpQueryParameterName: text.optional(),
  minimumRingSize: count.optional(),
  ringHash: z.strictObject({ minimumRingSize: count.optional() }).optional(),
  maglev: z.strictObject({ tableSize: count.optional() }).optional(),
});

const localityLbSetting = z.strictObject({
  enabled: flag.optional(),
  distribute: z.array(z.strictObject({ from: text, to: z.record(z.string(), whole(0, 100)) })).default([]),
  failover: z.array(z.strictObject({ from: text, to: text })).default([]),
  failoverPriority: z.array(text).default([]),
});

export const loadBalancer = z.strictObject({
  simple: z.enum(["UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN"]).optional(),
  consistentHash: consistentHash.optional(),
  localityLbSetting: localityLbSetting.optional(),
  warmupDurationSecs: duration.optional(),
  warmup: z
    .strictObject({
      duration,
      minimumPercent: percentValue.optional(),
      aggression: z.number().min(1).optional(),
    })
    .optional(),
});

export const connectionPool = z.strictObject({
  tcp: z
    .strictObject({
      maxConnections: count.optional(),
      connectTimeout: duration.optional(),
      tcpKeepalive: z
        .strictObject({ probes: count.optional(), time: duration.optional(), interval: duration.optional() })
        .optional(),
      maxConnectionDuration: duration.optional(),
      idleTimeout: duration.optional(),
    })
    .optional(),
  http: z
    .strictObject({
      http1MaxPendingRequests: count.optional(),
      http2MaxRequests: count.optional(),
      maxRequestsPerConnection: count.optional(),
      maxRetries: count.optional(),
      idleTimeout: duration.optional(),
      h2UpgradePolicy: z.enum(["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]).default("DEFAULT"),
      useClientProtocol: flag.default(false),
      maxConcurrentStreams: count.optional(),
    })
    .optional(),
});

export const outlierDetection = z.strictObject({
  consecutiveErrors: count.optional(),
  consecutive5xxErrors: count.optional(),
  consecutiveGatewayErrors: count.optional(),
  consecutiveLocalOriginFailures: count.optional(),
  splitExternalLocalOriginErrors: flag.default(false),
  interval: duration.optional(),
  baseEjectionTime: duration.optional(),
  maxEjectionPercent: whole(0, 100).optional(),
  minHealthPercent: whole(0, 100).optional(),
});

export const clientTls = z.strictObject({
  mode: z.enum(["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]).default("DISABLE"),
  clientCertificate: text.optional(),
  privateKey: text.optional(),
  caCertificates: text.optional(),
  caCrl: text.optional(),
  credentialName: text.optional(),
  subjectAltNames: z.array(text).default([]),
  sni: text.optional(),
  insecureSkipVerify: flag.default(false),
});

const perPort = {
  loadBalancer: loadBalancer.optional(),
  connectionPool: connectionPool.optional(),
  outlierDetection: outlierDetection.optional(),
  tls: clientTls.optional(),
};

export const trafficPolicy = z.strictObject({
  ...perPort,
  portLevelSettings: z
    .array(z.strictObject({ port: z.strictObject({ number: portNumber }), ...perPort }))
    .max(4096)
    .default([]),
  tunnel: z
    .strictObject({
      protocol: z.enum(["CONNECT", "POST"]).default("CONNECT"),
      targetHost: text,
      targetPort: portNumber,
    })
    .optional(),
  proxyProtocol: z.strictObject({ version: z.enum(["V1", "V2"]).default("V1") }).optional(),
  retryBudget: z.strictObject({ percent: percentValue.optional(), minRetryConcurrency: count.optional() }).optional(),
});
