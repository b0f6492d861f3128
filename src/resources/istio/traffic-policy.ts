import { z } from "zod";
import {
  count,
  duration,
  durationOrZero,
  flag,
  type Path,
  percentValue,
  portNumber,
  type Report,
  repeats,
  rule,
  text,
  whole,
} from "../schema.ts";

const consistentHashFields = z.strictObject({
  httpHeaderName: text.optional(),
  httpCookie: z.strictObject({ name: text, path: text.default(""), ttl: durationOrZero }).optional(),
  useSourceIp: flag.optional(),
  httpQueryParameterName: text.optional(),
  minimumRingSize: count.optional(),
  ringHash: z.strictObject({ minimumRingSize: count.optional() }).optional(),
  maglev: z.strictObject({ tableSize: count.optional() }).optional(),
});

const consistentHash = rule(
  consistentHashFields,
  ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName", "ringHash", "maglev"],
  (value, report) => {
    const keys = (["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"] as const).filter(
      (key) => value[key] !== undefined,
    );
    if (keys.length !== 1)
      report(
        keys.slice(1, 2),
        "ISM0602",
        "must hash exactly one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName",
      );
    if (value.ringHash && value.maglev) report(["maglev"], "ISM0602", "excludes ringHash; keep one of the two");
  },
);

const localityFields = z.strictObject({
  enabled: flag.optional(),
  distribute: z.array(z.strictObject({ from: text, to: z.record(z.string(), whole(0, 100)) })).default([]),
  failover: z.array(z.strictObject({ from: text, to: text })).default([]),
  failoverPriority: z.array(text).default([]),
});

const localityLbSetting = rule(localityFields, ["distribute", "failover", "failoverPriority"], judgeLocality);

function judgeLocality(value: z.output<typeof localityFields>, report: Report): void {
  const { distribute, failover, failoverPriority } = value;
  if (distribute.length > 0 && failover.length > 0)
    report(["failover"], "ISM0603", "excludes distribute; keep one of the two");
  if (distribute.length > 0 && failoverPriority.length > 0)
    report(["failoverPriority"], "ISM0603", "excludes distribute; keep one of the two");
  for (const [index, { from, to }] of distribute.entries()) {
    judgePlace(from, ["distribute", index, "from"], report);
    for (const [place, weight] of Object.entries(to)) {
      judgePlace(place, ["distribute", index, "to", place], report);
      if (weight === 0)
        report(["distribute", index, "to", place], "ISM0603", "must not be 0; remove the place instead");
    }
    const sum = Object.values(to).reduce((total, weight) => total + weight, 0);
    if (sum !== 100) report(["distribute", index, "to"], "ISM0603", `must add up to 100, got ${sum}`);
  }
  for (const [index, { from, to }] of failover.entries()) {
    if (from === to) report(["failover", index, "to"], "ISM0603", `must be another region than "${from}"`);
    for (const [side, region] of Object.entries({ from, to }))
      if (region === "" || region.includes("*"))
        report(["failover", index, side], "ISM0603", `must be a region without "*", got "${region}"`);
  }
}

/** `region/zone/subzone`, where a star may stand for all of the rest. */
function judgePlace(place: string, path: Path, report: Report): void {
  const parts = place.split("/");
  const star = parts.indexOf("*");
  if (parts.length > 3 || parts.includes("") || (star >= 0 && star < parts.length - 1))
    report(path, "ISM0603", `must be region/zone/subzone, perhaps ending in "*", got "${place}"`);
}

const loadBalancerFields = z.strictObject({
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

export const loadBalancer = rule(loadBalancerFields, ["simple", "consistentHash"], (value, report) => {
  if (value.simple !== undefined && value.consistentHash)
    report(["consistentHash"], "ISM0602", "excludes simple; keep one of the two");
});

const connectionPoolFields = z.strictObject({
  tcp: z
    .strictObject({
      maxConnections: count.optional(),
      connectTimeout: duration.optional(),
      tcpKeepalive: z
        .strictObject({ probes: count.optional(), time: duration.optional(), interval: duration.optional() })
        .optional(),
      maxConnectionDuration: duration.optional(),
      idleTimeout: durationOrZero.optional(),
    })
    .optional(),
  http: z
    .strictObject({
      http1MaxPendingRequests: count.optional(),
      http2MaxRequests: count.optional(),
      maxRequestsPerConnection: count.optional(),
      maxRetries: count.optional(),
      idleTimeout: durationOrZero.optional(),
      h2UpgradePolicy: z.enum(["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]).default("DEFAULT"),
      useClientProtocol: flag.default(false),
      maxConcurrentStreams: count.optional(),
    })
    .optional(),
});

export const connectionPool = rule(connectionPoolFields, ["tcp", "http"], (value, report) => {
  if (!value.tcp && !value.http) report([], "ISM0604", "must have tcp or http");
});

const outlierFields = z.strictObject({
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

export const outlierDetection = rule(
  outlierFields,
  ["consecutiveErrors", "consecutive5xxErrors", "consecutiveGatewayErrors"],
  (value, report) => {
    const newer = (["consecutive5xxErrors", "consecutiveGatewayErrors"] as const).find(
      (key) => value[key] !== undefined,
    );
    if (value.consecutiveErrors !== undefined && newer)
      report(["consecutiveErrors"], "ISM0606", `excludes ${newer}; remove the old field`);
  },
);

const clientTlsFields = z.strictObject({
  // Absent stays absent: who says nothing has not asked for plaintext.
  mode: z.enum(["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]).optional(),
  clientCertificate: text.optional(),
  privateKey: text.optional(),
  caCertificates: text.optional(),
  caCrl: text.optional(),
  credentialName: text.optional(),
  subjectAltNames: z.array(text).default([]),
  sni: text.optional(),
  insecureSkipVerify: flag.default(false),
});

export const clientTls = rule(clientTlsFields, clientTlsFields.keyof().options, judgeClientTls);

function judgeClientTls(value: z.output<typeof clientTlsFields>, report: Report): void {
  const files = (["clientCertificate", "privateKey", "caCertificates"] as const).filter(
    (key) => value[key] !== undefined,
  );
  if (value.mode === "ISTIO_MUTUAL") {
    for (const key of files)
      report([key], "ISM0621", "has no effect with mode ISTIO_MUTUAL: the workload's own certificate is used");
    return;
  }
  if (value.credentialName !== undefined && files.length > 0)
    report([files[0]!], "ISM0605", "excludes credentialName; keep one of the two");
  if (value.mode === "MUTUAL" && value.credentialName === undefined)
    for (const key of ["clientCertificate", "privateKey"] as const)
      if (!value[key]) report([key], "ISM0605", "is required with mode MUTUAL, or credentialName in its place");
  const encrypts = value.mode !== undefined && value.mode !== "DISABLE";
  if (value.insecureSkipVerify && (!encrypts || value.caCertificates !== undefined))
    report(["insecureSkipVerify"], "ISM0605", "excludes caCertificates and needs a mode with TLS");
}

const perPort = {
  loadBalancer: loadBalancer.optional(),
  connectionPool: connectionPool.optional(),
  outlierDetection: outlierDetection.optional(),
  tls: clientTls.optional(),
};

const policyFields = z.strictObject({
  ...perPort,
  portLevelSettings: z
    .array(
      rule(
        z.strictObject({ port: z.strictObject({ number: portNumber }), ...perPort }),
        ["loadBalancer", "connectionPool", "outlierDetection", "tls"],
        ({ port: _port, ...settings }, report) => {
          if (Object.values(settings).every((part) => part === undefined))
            report([], "ISM0601", "must have one of loadBalancer, connectionPool, outlierDetection, tls");
        },
      ),
    )
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

export const trafficPolicy = rule(policyFields, policyFields.keyof().options, (value, report) => {
  const { portLevelSettings, ...settings } = value;
  if (portLevelSettings.length === 0 && Object.values(settings).every((part) => part === undefined))
    report([], "ISM0601", `must have at least one of ${policyFields.keyof().options.join(", ")}`);
  for (const { index } of repeats(portLevelSettings, ({ port }) => port.number))
    report(
      ["portLevelSettings", index, "port", "number"],
      "ISM0608",
      `port ${portLevelSettings[index]!.port.number} stands here twice; join the two`,
    );
});
