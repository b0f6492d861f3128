import { z } from "zod";
import { dataPlanes } from "../../src/lab/index.ts";

/**
 * A scenario is data: what each cluster is told, a list of steps, and what each call must give. One file of
 * `scenarios/` holds one scenario. The same file runs with every data plane.
 *
 * Every scenario runs in a lab with the cast of `scenarios/cast/` and the clusters' gateways. What it applies is taken
 * away after it. Names like `${CLUSTER2_GW_ADDR}` stand for the lab's addresses, `${CERT:name}`, `${KEY:name}` and
 * `${CA:name}` for base64 of a PEM of `scenarios/certificates.ts`. An object without a namespace belongs to `foo` in
 * cluster1 and to `bar` in cluster2.
 */

/** `cluster1/sleep` is a workload; `cluster1/bar/sleep` names its namespace as well, where there are two of the name. */
const place = z.string().regex(/^cluster\d+\/[a-z0-9-]+(\/[a-z0-9-]+)?$/, "must be <cluster>/<workload>");

/** A text that must be equal; `/…/` is a pattern that must match; `null`: must not be there. */
const wanted = z.union([z.string(), z.null()]);

/** Objects, as they would stand in a manifest. */
const objects = z.array(z.looseObject({ apiVersion: z.string(), kind: z.string(), metadata: z.looseObject({}) }));
const clusterName = z.string().regex(/^cluster\d+$/, "must be a cluster's name, such as cluster1");
const perCluster = z.record(clusterName, objects);

const tls = z.strictObject({
  /** Server name; by default the URL's host. */
  sni: z.string().optional(),
  /** A name of the certificates in `scenarios/certificates.ts`: who is trusted, and who the caller says it is. */
  trusts: z.string().optional(),
  shows: z.string().optional(),
  /** The oldest and the newest version that the caller speaks. */
  minVersion: z.enum(["1.2", "1.3"]).optional(),
  maxVersion: z.enum(["1.2", "1.3"]).optional(),
});

const http = z.strictObject({
  url: z.string().regex(/^https?:\/\//),
  method: z.string().default("GET"),
  headers: z.record(z.string(), z.string()).default({}),
  body: z.string().optional(),
  /** A body of this many bytes instead. */
  bytes: z.number().int().nonnegative().optional(),
  version: z.enum(["1.1", "2"]).default("1.1"),
  /** `address:port` to connect to, whatever the URL says; its host stays the authority. */
  via: z.string().optional(),
  tls: tls.optional(),
});

/** What is asked. `http` follows no redirect. */
const request = {
  http: http.optional(),
  /** Sends the text, reads until the text is answered or the end. */
  tcp: z.strictObject({ to: z.string(), send: z.string(), tls: tls.optional() }).optional(),
  grpc: z
    .strictObject({
      to: z.string(),
      /** `stream`: three messages, each sent after the answer to the one before. */
      method: z.enum(["unary", "stream"]).default("unary"),
      message: z.string(),
      headers: z.record(z.string(), z.string()).default({}),
      /** What the echo is asked to do: `status=503`. */
      query: z.string().optional(),
    })
    .optional(),
  websocket: z
    .strictObject({
      url: z.string().regex(/^ws:\/\//),
      headers: z.record(z.string(), z.string()).default({}),
      send: z.string(),
    })
    .optional(),
  dns: z.strictObject({ name: z.string(), type: z.enum(["A", "AAAA"]).default("A") }).optional(),
};

const countedAt = z.strictObject({ at: place, is: z.number().int().nonnegative() });
const ending = z.enum(["refused", "reset", "closed", "timeout", "tls", "dns", "unreachable"]);
const flagAt = z.strictObject({ at: place, is: z.string() });

const expectation = z.strictObject({
  status: z.union([z.number().int(), z.array(z.number().int())]).optional(),
  /** Headers of the response. */
  headers: z.record(z.string(), wanted).optional(),
  /** The body, as text. */
  body: wanted.optional(),
  bytes: z.number().int().optional(),
  /** Who answered: fields of what the echo application says of itself. */
  app: z
    .strictObject({
      cluster: z.string().optional(),
      namespace: z.string().optional(),
      workload: z.string().optional(),
      version: z.string().optional(),
    })
    .optional(),
  /** What the application saw of the request. */
  saw: z
    .strictObject({
      method: wanted.optional(),
      path: wanted.optional(),
      authority: wanted.optional(),
      protocol: wanted.optional(),
      headers: z.record(z.string(), wanted).optional(),
      body: wanted.optional(),
    })
    .optional(),
  /** Who the caller was to the application's sidecar: the URI in XFCC, or null where there is none. */
  caller: wanted.optional(),
  /** Of `times` calls: percent per value of `by`, each within `tolerance` points. What is not named must not occur. */
  share: z
    .strictObject({
      by: z.enum(["cluster", "namespace", "workload", "version", "pod", "status"]),
      of: z.record(z.string(), z.number().min(0).max(100)),
      tolerance: z.number().min(0).max(50).default(0),
    })
    .optional(),
  /** Of `times` calls: how many different values there are. */
  distinct: z
    .strictObject({
      by: z.enum(["cluster", "namespace", "workload", "version", "pod", "status"]),
      count: z.number().int().positive(),
    })
    .optional(),
  /**
   * The response flag in the access log of the proxy `at`, by default the caller's own. `-` is none, `/…/` a pattern.
   * Of several calls, `-` must hold for all, another for one.
   */
  flag: z.union([z.string(), flagAt, z.array(flagAt)]).optional(),
  /** Fields of the line in the access log of the caller's own proxy: of several calls, of one of them. */
  logged: z.record(z.string(), wanted).optional(),
  /** Gateways through which the call must have gone, and those through which it must not. */
  through: z.array(place).optional(),
  notThrough: z.array(place).optional(),
  /** How long the answer took, in milliseconds. Only with room to spare: for timeouts, delays and "at once". */
  took: z.strictObject({ atLeast: z.number().optional(), atMost: z.number().optional() }).optional(),
  /** No answer at all: how the connection ended. */
  error: z.union([ending, z.array(ending)]).optional(),
  /** Messages that came back over gRPC, a WebSocket or TCP. */
  messages: z.array(wanted).optional(),
  grpcStatus: z.number().int().optional(),
  /** Addresses that DNS gave. */
  addresses: z.array(z.string()).optional(),
  /**
   * How many requests of this step reached an application, all calls and tries counted, copies of a mirror too; or how
   * many reached that of one workload. HTTP, gRPC and WebSockets only.
   */
  reached: z.union([z.number().int().nonnegative(), countedAt, z.array(countedAt)]).optional(),
});

const call = z.strictObject({
  call: z.string().optional(),
  from: place,
  ...request,
  times: z.number().int().positive().default(1),
  /** Calls in flight at a time. */
  parallel: z.number().int().positive().default(1),
  /** One connection for all `times`, or one each. */
  connection: z.enum(["each", "kept"]).default("each"),
  timeoutMs: z.number().int().positive().default(10_000),
  /** Ask again until the expectation holds, at most this long: where news comes by health checks or ejection. */
  withinMs: z.number().int().positive().optional(),
  expect: expectation,
});

/** Something happens between calls. All of it is undone at the scenario's end. */
const event = z.strictObject({
  apply: perCluster.optional(),
  /** `<Kind>/<namespace>/<name>`, per cluster. */
  delete: z.record(z.string(), z.array(z.string())).optional(),
  /** Stops all pods of a workload, a gateway too, until the scenario's end. */
  stop: z.array(place).optional(),
  start: z.array(place).optional(),
  /** Keeps its process from running, so that it takes connections and answers nothing. */
  freeze: z.array(place).optional(),
  /** Ends the proxies of a workload, or the control plane (`cluster1/controlplane`), as a crash would. They come back. */
  kill: z.array(place).optional(),
  waitMs: z.number().int().positive().optional(),
  /** What a cluster's control plane must complain of: one of its problems holds these words, or matches. */
  tells: z.record(clusterName, z.string()).optional(),
});

/** Told apart before it is judged, so that what is wrong with a call is said as of a call. */
const step = z.looseObject({}).transform((value, context): z.output<typeof call> | z.output<typeof event> => {
  const read = "from" in value || "expect" in value ? call.safeParse(value) : event.safeParse(value);
  if (read.success) return read.data;
  for (const issue of read.error.issues)
    context.addIssue({ ...issue, input: value } as Parameters<typeof context.addIssue>[0]);
  return z.NEVER;
});

export const scenarioSchema = z.strictObject({
  /** A true sentence. */
  title: z.string(),
  /** The capability that it shows, from the list in `scenarios/README.md`. */
  shows: z.array(z.string()).min(1),
  /** Data planes on which it makes sense; by default all. A reason must be given in `scenarios/differences.ts`. */
  only: z.array(z.enum(dataPlanes)).optional(),
  clusters: perCluster.default({}),
  /** Objects that must be refused, and the words of the refusal: nothing of the scenario is applied then. */
  refused: z.strictObject({ cluster: z.string(), objects, message: z.string() }).optional(),
  steps: z.array(step).default([]),
});

export type Scenario = z.infer<typeof scenarioSchema>;
export type Call = z.infer<typeof call>;
export type Event = z.infer<typeof event>;
export type Expectation = z.infer<typeof expectation>;
