import { request as httpRequest, type RequestOptions } from "node:http";
import { connect as connectHttp2, constants } from "node:http2";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import type { AdminReply } from "../../base/index.ts";
import { type Ip, ipFamily } from "../../values/index.ts";
import type { AppProber } from "./app-probers.ts";

/** Where an application of the pod is reached without the proxy between, as kubelet would without a mesh. */
export interface AppPlace {
  readonly host: string;
  /** The address to come from, where the capture rules let by who comes from it. */
  readonly from?: string;
}

/**
 * The pod's own address first, since kubelet would ask there; the source tells the capture rules that it is the proxy who
 * asks, and has asked its own questions already. An application that listens on loopback alone answers there.
 */
export function appPlaces(pod: Ip, redirected: boolean): readonly AppPlace[] {
  const [loopback, source] = ipFamily(pod) === 4 ? ["127.0.0.1", "127.0.0.6"] : ["::1", "::6"];
  // Nobody has ::6, so nobody can come from it.
  const own: AppPlace = redirected && source === "127.0.0.6" ? { host: pod, from: source } : { host: pod };
  return redirected && ipFamily(pod) === 6 ? [{ host: loopback! }] : [own, { host: loopback! }];
}

/** What the application says, as an answer for kubelet, who looks at the status alone. */
export async function askApp(prober: AppProber, places: readonly AppPlace[]): Promise<AdminReply> {
  let last: Answer = { reached: false, why: "no place to ask" };
  for (const place of places) {
    last = await ask(prober, place);
    if (last.reached) break;
  }
  if (last.reached) return { status: last.status, text: last.text };
  return { status: 503, text: `the application does not answer on port ${prober.port}: ${last.why}\n` };
}

type Answer =
  | { readonly reached: true; readonly status: number; readonly text: string }
  /** Nobody listens there. */
  | { readonly reached: false; readonly why: string };

function ask(prober: AppProber, place: AppPlace): Promise<Answer> {
  switch (prober.by) {
    case "http":
      return askHttp(prober, place);
    case "tcp":
      return askTcp(prober, place);
    case "grpc":
      return askGrpc(prober, place);
  }
}

/** Kubelet reads no more either. */
const longestBody = 10 * 1024;

function failed(error: NodeJS.ErrnoException): Answer {
  if (error.code === "ECONNREFUSED" || error.code === "EADDRNOTAVAIL") return { reached: false, why: error.message };
  return { reached: true, status: 503, text: `the application's answer to a probe failed: ${error.message}\n` };
}

function late(timeoutMs: number): Error {
  return new Error(`nothing within ${timeoutMs} ms`);
}

function askHttp(prober: AppProber & { readonly by: "http" }, { host, from }: AppPlace): Promise<Answer> {
  const headers: Record<string, string> = { "user-agent": "kube-probe/isthmus", accept: "*/*", connection: "close" };
  for (const [name, value] of prober.headers) headers[name.toLowerCase()] = value;
  const options: RequestOptions = {
    host,
    port: prober.port,
    method: "GET",
    path: encodeURI(decodePath(prober.path)),
    headers,
    agent: false,
    ...(from === undefined ? {} : { localAddress: from }),
  };
  return new Promise((resolve) => {
    // Kubelet does not verify either: it knows of no root that the application's certificate could lead to.
    const call = prober.secure ? httpsRequest({ ...options, rejectUnauthorized: false }) : httpRequest(options);
    const stopLate = AbortSignal.timeout(prober.timeoutMs);
    const onLate = () => call.destroy(late(prober.timeoutMs));
    stopLate.addEventListener("abort", onLate, { once: true });
    const done = (answer: Answer) => {
      stopLate.removeEventListener("abort", onLate);
      resolve(answer);
    };
    call.on("error", (error) => done(failed(error)));
    call.on("response", (response) => {
      const status = statusFor(response.statusCode ?? 0, response.headers.location);
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        if (text.length < longestBody) text += part.slice(0, longestBody - text.length);
      });
      response.on("end", () => done({ reached: true, status, text }));
      response.on("error", (error) => done(failed(error)));
    });
    call.end();
  });
}

/** A redirect is not followed: to kubelet any status from 200 to 399 is good, and where it leads is another's matter. */
function statusFor(status: number, _location: string | undefined): number {
  return status >= 200 && status <= 599 ? status : 502;
}

function decodePath(path: string): string {
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}

function askTcp({ port, timeoutMs }: AppProber & { readonly by: "tcp" }, { host, from }: AppPlace): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, ...(from === undefined ? {} : { localAddress: from }) });
    const onLate = () => socket.destroy(late(timeoutMs));
    const stopLate = AbortSignal.timeout(timeoutMs);
    stopLate.addEventListener("abort", onLate, { once: true });
    const done = (answer: Answer) => {
      stopLate.removeEventListener("abort", onLate);
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", () => done({ reached: true, status: 200, text: "connected\n" }));
    socket.on("error", (error) => done(failed(error)));
  });
}

/** `grpc.health.v1.Health/Check` (gRPC health checking protocol), without TLS as kubelet asks. */
function askGrpc(prober: AppProber & { readonly by: "grpc" }, { host, from }: AppPlace): Promise<Answer> {
  const { port, service, timeoutMs } = prober;
  return new Promise((resolve) => {
    const name = Buffer.from(service);
    // HealthCheckRequest { string service = 1; }, behind five bytes of gRPC's own.
    const message =
      name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a]), varint(name.length), name]);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    const authority = host.includes(":") ? `[${host}]` : host;
    const session = connectHttp2(`http://${authority}:${port}`, {
      createConnection: () => connect({ host, port, ...(from === undefined ? {} : { localAddress: from }) }),
    });
    const stopLate = AbortSignal.timeout(timeoutMs);
    const onLate = () => session.destroy(late(timeoutMs));
    stopLate.addEventListener("abort", onLate, { once: true });
    const done = (answer: Answer) => {
      stopLate.removeEventListener("abort", onLate);
      session.destroy();
      resolve(answer);
    };
    session.on("error", (error) => done(failed(error)));
    session.on("close", () => done({ reached: true, status: 503, text: "the connection was closed\n" }));
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: "POST",
      [constants.HTTP2_HEADER_PATH]: "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
      "user-agent": "kube-probe/isthmus",
    });
    const parts: Buffer[] = [];
    let grpcStatus: string | undefined;
    const take = (headers: Readonly<Record<string, unknown>>) => {
      if (headers["grpc-status"] !== undefined) grpcStatus = String(headers["grpc-status"]);
    };
    stream.on("response", take);
    stream.on("trailers", take);
    stream.on("data", (part: Buffer) => {
      if (parts.length < 100) parts.push(part);
    });
    stream.on("error", (error) => done(failed(error)));
    stream.on("end", () => {
      const serving = grpcStatus === "0" && isServing(Buffer.concat(parts).subarray(5));
      const why = serving ? "SERVING" : grpcStatus === "0" ? "not SERVING" : `gRPC status ${grpcStatus ?? "absent"}`;
      done({ reached: true, status: serving ? 200 : 503, text: `${why}\n` });
    });
    stream.end(Buffer.concat([head, message]));
  });
}

/** HealthCheckResponse { ServingStatus status = 1; }, where SERVING is 1. */
function isServing(message: Buffer): boolean {
  return message.length >= 2 && message[0] === 0x08 && message[1] === 1;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let left = value; ; left >>>= 7) {
    if (left < 0x80) return Buffer.from([...bytes, left]);
    bytes.push((left & 0x7f) | 0x80);
  }
}
