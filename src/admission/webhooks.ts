import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import { type Cell, type Clock, Failure, type Logger, type Metrics, type Scope, sleep } from "../base/index.ts";
import { formatSocketAddress, type Ip, type SocketAddress } from "../values/index.ts";
import { answerInject } from "./answer-inject.ts";
import { answerValidate } from "./answer-validate.ts";
import { bodyLimit, readBody } from "./body.ts";
import { type AdmissionAnswer, type AdmissionRequest, readReview, writeReview } from "./review.ts";
import type { ServerVersion } from "./server-version.ts";
import type { InjectionSettings } from "./settings.ts";

/** A server's certificate with the chain behind it, and its key. Whatever else is beside them does not matter. */
export interface ServingMaterial {
  readonly certChainPem: string;
  readonly privateKeyPem: string;
}

export interface WebhookOptions {
  readonly listen: SocketAddress;
  /** Followed: a new certificate serves new connections, and those that are open go on. */
  readonly material: Cell<ServingMaterial>;
  /** Followed, see `startSettingsFile`. */
  readonly settings: Cell<InjectionSettings>;
  /** Of the API server, for `nativeSidecars: auto`; see `startServerVersion`. Undefined while it is not known. */
  readonly serverVersion: Cell<ServerVersion | undefined>;
}

export interface WebhookDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** The API server waits for 10 s (30 s at most) and has a few connections; others have no business here. */
const limits = { headersMs: 10_000, requestMs: 15_000, idleMs: 90_000, connections: 1_000, headers: 100 };

interface Reply {
  readonly status: number;
  readonly type?: string;
  readonly body: string;
}

/**
 * The webhooks `POST /inject` and `POST /validate` over HTTPS, and `GET /ready`. Resolves with the bound address; on
 * closing, what is being answered is answered first. Throws `webhooks/listen` when the address cannot be had, and
 * `webhooks/certificate` when the first certificate cannot be used; a later one that cannot is said and not taken.
 */
export async function startWebhooks(options: WebhookOptions, deps: WebhookDeps, scope: Scope): Promise<SocketAddress> {
  const { material } = options;
  const { log } = deps;
  const answer = answers(options, deps);
  const server = secureServer(material.value, (request, response) => {
    answer(request)
      .catch((caught): Reply => {
        log.error({ err: caught, path: request.url }, "an admission request could not be answered");
        return { status: 500, body: `${Failure.from(caught).message}\n` };
      })
      .then((reply) => send(response, reply, scope.closed || !request.complete))
      .catch((err) => log.debug({ err }, "an answer was not wanted any more"));
  });
  server.headersTimeout = limits.headersMs;
  server.requestTimeout = limits.requestMs;
  server.keepAliveTimeout = limits.idleMs;
  server.maxConnections = limits.connections;
  server.maxHeadersCount = limits.headers;
  server.on("tlsClientError", (err) => log.debug({ err }, "a TLS handshake with the webhooks failed"));
  scope.defer(
    material.subscribe((now) => {
      try {
        server.setSecureContext(contextOf(now));
      } catch (caught) {
        log.error({ err: badCertificate(caught) }, "going on with the webhooks' certificate of before");
      }
    }),
  );
  const bound = await listen(server, options.listen);
  scope.defer((deadline) => close(server, deadline, deps.clock));
  return bound;
}

function contextOf({ certChainPem, privateKeyPem }: ServingMaterial) {
  return { cert: certChainPem, key: privateKeyPem, minVersion: "TLSv1.2" as const };
}

function badCertificate(cause: unknown): Failure {
  return new Failure("webhooks/certificate", `the webhooks' certificate cannot be used: ${(cause as Error).message}`, {
    cause,
  });
}

function secureServer(
  material: ServingMaterial,
  onRequest: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  try {
    return createServer(
      { ...contextOf(material), maxHeaderSize: 16 * 1024, handshakeTimeout: limits.headersMs },
      onRequest,
    );
  } catch (cause) {
    throw badCertificate(cause);
  }
}

/** What becomes of each request, counted. */
function answers(
  options: WebhookOptions,
  { clock, log, metrics }: WebhookDeps,
): (request: IncomingMessage) => Promise<Reply> {
  const requests = metrics.counter(
    "isthmus_admission_requests_total",
    "Requests of the API server for admission, by webhook and by how they ended.",
    ["webhook", "outcome"],
  );
  const seconds = metrics.histogram(
    "isthmus_admission_seconds",
    "Time from a request for admission to its answer.",
    ["webhook"],
    [0.001, 0.005, 0.02, 0.1, 0.5, 2],
  );
  const judge = {
    inject: (request: AdmissionRequest) =>
      answerInject(request, options.settings.value, { serverVersion: options.serverVersion.value }),
    validate: (request: AdmissionRequest) => answerValidate(request, { cluster: options.settings.value.cluster }),
  };

  return async (request) => {
    const path = (request.url ?? "").replace(/\?.*$/s, "");
    if (request.method === "GET" && path === "/ready") return { status: 200, body: "ready\n" };
    const webhook = path === "/inject" ? "inject" : path === "/validate" ? "validate" : undefined;
    if (webhook === undefined) return { status: 404, body: "there is POST /inject, POST /validate and GET /ready\n" };
    if (request.method !== "POST") return { status: 405, body: `POST an AdmissionReview to ${path}\n` };
    const startMs = clock.monotonic();
    const counted = (outcome: string, reply: Reply): Reply => {
      requests.inc({ webhook, outcome });
      seconds.observe({ webhook }, (clock.monotonic() - startMs) / 1000);
      return reply;
    };
    const type = request.headers["content-type"] ?? "";
    if (!/^application\/json\b/i.test(type))
      return counted("malformed", { status: 415, body: `must be application/json, got "${type.slice(0, 100)}"\n` });
    const body = await readBody(request);
    if (body === "too-large")
      return counted("too-large", { status: 413, body: `must have at most ${bodyLimit} bytes\n` });
    if (body === "cut-off") return counted("malformed", { status: 400, body: "the body ended before its end\n" });
    if (body === "not-text") return counted("malformed", { status: 400, body: "must be UTF-8\n" });
    const reading = readReview(body.text);
    if (reading.outcome === "wrong") return counted("malformed", { status: 400, body: `${reading.problem}\n` });
    const { request: asked } = reading;
    const { answer, outcome, why } = judged(judge[webhook], asked);
    const { operation, namespace, name, kind } = asked;
    const fields = { webhook, outcome, operation, kind: kind.kind, namespace, name, why };
    if (answer.allowed) log.debug(fields, "admission answered");
    else log.info(fields, "admission denied");
    return counted(outcome, { status: 200, type: "application/json", body: writeReview(asked, answer) });
  };

  /** A fault of ours must say so to who waits, in a form that the API server shows. */
  function judged(
    judgeOne: (request: AdmissionRequest) => {
      readonly answer: AdmissionAnswer;
      readonly outcome: string;
      readonly why: string;
    },
    asked: AdmissionRequest,
  ) {
    try {
      return judgeOne(asked);
    } catch (err) {
      log.error({ err, kind: asked.kind.kind, namespace: asked.namespace, name: asked.name }, "admission failed");
      const message = `isthmus could not judge the object: ${(err as Error).message}`;
      return { answer: { allowed: false as const, message, code: 500 }, outcome: "failed", why: message };
    }
  }
}

function send(
  response: ServerResponse,
  { status, type = "text/plain; charset=utf-8", body }: Reply,
  last: boolean,
): void {
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    ...(last ? { connection: "close" } : {}),
  });
  response.end(body);
}

async function listen(server: Server, { ip, port }: SocketAddress): Promise<SocketAddress> {
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException) => {
      const where = formatSocketAddress({ ip, port });
      const hint =
        cause.code === "EADDRINUSE" ? { hint: "another process serves there; stop it, or choose another address" } : {};
      reject(
        new Failure("webhooks/listen", `the webhooks cannot listen on "${where}": ${cause.message}`, {
          cause,
          ...hint,
        }),
      );
    };
    server.once("error", failed);
    server.listen(port, ip, () => {
      server.off("error", failed);
      resolve();
    });
  });
  // Running out of descriptors is said by whoever needs one; the API server asks again.
  server.on("error", () => {});
  const bound = server.address();
  return { ip: ip as Ip, port: typeof bound === "object" && bound !== null ? bound.port : port };
}

/** How long it goes on: an API server that has not heard of it may be asking right now, on a connection that seems idle. */
const lingerMs = 1_000;

/** After a moment no new connections; those without a question are closed, the others after their answer, all at the deadline. */
async function close(server: Server, deadline: AbortSignal, clock: Clock): Promise<void> {
  if (!deadline.aborted) await sleep(clock, lingerMs, deadline).catch(() => {});
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
    const cut = () => server.closeAllConnections();
    if (deadline.aborted) cut();
    else deadline.addEventListener("abort", cut, { once: true });
  });
}
