import { createServer, type IncomingMessage, type OutgoingHttpHeaders, request, type ServerResponse } from "node:http";
import type { Server } from "node:net";
import { wayOut } from "../dial.ts";

// What the four services of Bookinfo share: answering JSON, calling each other, and passing on what a mesh needs.

/** Headers that a service hands from the call it got to the calls it makes, so that a trace or a route holds together. */
const passedOn = [
  "x-request-id",
  "x-ot-span-context",
  "x-datadog-trace-id",
  "x-datadog-parent-id",
  "x-datadog-sampling-priority",
  "x-cloud-trace-context",
  "traceparent",
  "tracestate",
  "grpc-trace-bin",
  "x-b3-traceid",
  "x-b3-spanid",
  "x-b3-parentspanid",
  "x-b3-sampled",
  "x-b3-flags",
  "b3",
  "sw8",
  "end-user",
  "user-agent",
  "cookie",
  "authorization",
  "jwt",
];

/** How long one service waits for another, in milliseconds. */
const callTimeoutMs = 10_000;

/** The largest body that a service takes from a caller or from another service. */
const longestBody = 1 << 20;

export interface Reply {
  readonly status: number;
  readonly headers?: OutgoingHttpHeaders;
  readonly body: string;
}

export function json(value: unknown, status = 200): Reply {
  return { status, headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) };
}

/** Serves `answer`; whatever it throws becomes a 500 that says so. */
export function bookinfoServer(answer: (request: IncomingMessage, path: string) => Promise<Reply> | Reply): Server {
  return createServer({ keepAliveTimeout: 75_000 }, (request, response) => {
    const path = (request.url ?? "/").split("?")[0]!;
    void Promise.resolve()
      .then(() => answer(request, path))
      .catch((error: Error): Reply => json({ error: error.message }, 500))
      .then((reply) => send(request, response, reply));
  });
}

function send(request: IncomingMessage, response: ServerResponse, reply: Reply): void {
  request.resume();
  response.writeHead(reply.status, { ...reply.headers, "Content-Length": String(Buffer.byteLength(reply.body)) });
  response.end(reply.body);
}

/** The whole body as text; rejects when it is longer than a service takes. */
export async function readBody(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > longestBody) throw new Error("the body is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** The headers of `request` that go along with a call made on its behalf. */
export function headersToPass(request: IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name of passedOn) {
    const value = request.headers[name];
    if (typeof value === "string") headers[name] = value;
  }
  return headers;
}

/** The address of another service: `REVIEWS_HOSTNAME`, `REVIEWS_SERVICE_PORT` and `SERVICES_DOMAIN`, as usual for Bookinfo. */
export function serviceUrl(name: "details" | "reviews" | "ratings", path: string): URL {
  const domain = process.env["SERVICES_DOMAIN"] ? `.${process.env["SERVICES_DOMAIN"]}` : "";
  const host = process.env[`${name.toUpperCase()}_HOSTNAME`] || name;
  const port = process.env[`${name.toUpperCase()}_SERVICE_PORT`] || "9080";
  return new URL(`http://${host}${domain}:${port}${path}`);
}

/** GETs `url`, by the HTTP proxy that the environment names, if it names one. Rejects when there was no answer in time. */
export function get(
  url: URL,
  headers: Record<string, string>,
): Promise<{ readonly status: number; readonly body: string }> {
  const way = wayOut();
  const target =
    way.kind === "connect"
      ? { host: way.host, port: way.port, path: url.href }
      : { host: url.hostname, port: Number(url.port) || 80, path: `${url.pathname}${url.search}` };
  return new Promise((resolve, reject) => {
    const call = request({ ...target, headers: { ...headers, host: url.host }, timeout: callTimeoutMs });
    call.once("timeout", () => call.destroy(new Error(`"${url.host}" did not answer in ${callTimeoutMs / 1000} s`)));
    call.once("error", reject);
    call.once("response", (response) => {
      readBody(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
    });
    call.end();
  });
}
