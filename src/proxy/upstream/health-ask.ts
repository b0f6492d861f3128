import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Clock, explain, Failure } from "../../base/index.ts";
import {
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus,
  HealthCheckResponseSchema,
} from "../../proto/gen/grpc/health/v1/health_pb.js";
import type { HealthRules, Question, StatusRange } from "../config/health-check.ts";
import type { HeaderChanges } from "../config/route.ts";
import { type Stop, Stopper } from "../l4/stop.ts";
import { type Headers, headerValue } from "../l7/headers.ts";
import { Http1ClientConnection } from "../l7/http1-client.ts";
import { Http2ClientConnection } from "../l7/http2-client.ts";
import type { ClientConnection, RequestHead } from "../l7/message.ts";
import { changeHeaders } from "../l7/route-match.ts";
import type { HealthAnswer } from "./health-state.ts";
import type { UpstreamSocket } from "./upstream.ts";

/** Asks one endpoint, again and again. */
export interface Asker {
  /** Never rejects, and answers within the rules' timeout. */
  ask(): Promise<HealthAnswer>;
  close(): void;
}

interface AskerDeps {
  readonly clock: Clock;
  /** The name that is asked for where the question has none. */
  readonly cluster: string;
  readonly connect: (signal: Stop) => Promise<UpstreamSocket>;
}

/** What is read of an answer's body, in bytes: more is no answer to a question of health. */
const mostBytes = 64 * 1024;

export function askerFor(rules: HealthRules, deps: AskerDeps): Asker {
  const { question } = rules;
  let kept: Kept | undefined;
  const once = async (limit: Stop): Promise<HealthAnswer> => {
    if (question.kind === "tcp") return askTcp(question, await deps.connect(limit), limit);
    // One that was closed since the last question is no news of the endpoint.
    if (!kept?.connection.usable) kept = undefined;
    kept ??= await open(question, deps, limit);
    const used = kept;
    if (!rules.reuse) kept = undefined;
    try {
      return await askHttp(question, { connection: used.connection, limit, cluster: deps.cluster });
    } finally {
      if (!rules.reuse) used.close();
    }
  };
  return {
    async ask() {
      const limit = new Stopper();
      const late = new Failure("upstream/health-timeout", `no answer within ${rules.timeoutMs} ms`);
      const timer = deps.clock.after(rules.timeoutMs, () => limit.abort(late), { background: true });
      try {
        return await once(limit);
      } catch (caught) {
        kept?.close();
        kept = undefined;
        return { kind: "silent", reason: explain(limit.aborted ? late : caught) };
      } finally {
        timer.cancel();
      }
    },
    close() {
      kept?.close();
      kept = undefined;
    },
  };
}

interface Kept {
  readonly connection: ClientConnection & { readonly usable: boolean };
  close(): void;
}

async function open(question: Question, { connect, clock }: AskerDeps, limit: Stop): Promise<Kept> {
  const socket = await connect(limit);
  if (question.kind === "grpc" || (question.kind === "http" && question.protocol === "http2")) {
    const connection = await Http2ClientConnection.open(socket, clock, () => {});
    return { connection, close: () => connection.close() };
  }
  const connection = new Http1ClientConnection(socket, { onIdle() {}, onClosed() {} });
  return { connection, close: () => connection.close() };
}

type HttpQuestion = Exclude<Question, { kind: "tcp" }>;

function askHttp(
  question: HttpQuestion,
  {
    connection,
    limit,
    cluster,
  }: { readonly connection: ClientConnection; readonly limit: Stop; readonly cluster: string },
): Promise<HealthAnswer> {
  return new Promise((resolve, reject) => {
    const body: Buffer[] = [];
    let bytes = 0;
    let status = 0;
    let fields: Headers = [];
    const done = (trailers: Headers | undefined) => {
      limit.removeEventListener("abort", onAbort);
      resolve(
        judge(question, { status, fields: trailers ? [...fields, ...trailers] : fields, body: Buffer.concat(body) }),
      );
    };
    const stream = connection.start(requestOf(question, cluster), {
      onInformational() {},
      onResponse(head, end) {
        ({ status, headers: fields } = head);
        if (end) done(undefined);
      },
      onResponseData(chunk) {
        bytes += chunk.length;
        // The bytes are ours for the length of this call only.
        if (bytes <= mostBytes) body.push(Buffer.from(chunk));
        else {
          stream.reset();
          limit.removeEventListener("abort", onAbort);
          reject(new Failure("upstream/health", `the answer is longer than ${mostBytes} bytes`));
        }
      },
      onResponseEnd: done,
      onUpstreamReset(_kind, failure) {
        limit.removeEventListener("abort", onAbort);
        reject(failure);
      },
      onUpstreamDrain() {},
    });
    const onAbort = () => {
      stream.reset();
      reject(limit.reason);
    };
    limit.addEventListener("abort", onAbort, { once: true });
    if (question.kind === "grpc") {
      stream.data(framed(toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, question))));
      stream.end(undefined);
    }
  });
}

/** One gRPC message: not compressed, then its length. */
function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

// There is no request that an operator could tell of.
const noOperators = {
  substituted: (template: string) =>
    template.replace(/%(?:[A-Z0-9_]+(?:\([^)]*\))?)?%/g, (found) => (found === "%%" ? "%" : "")),
};

function requestOf(question: HttpQuestion, cluster: string): RequestHead {
  const http = question.kind === "http";
  const headers: Headers = http
    ? ["user-agent", "isthmus-health"]
    : ["content-type", "application/grpc", "te", "trailers", "user-agent", "isthmus-health"];
  const changed = changeHeaders(headers, question.headers as HeaderChanges, noOperators);
  return {
    method: http ? question.method : "POST",
    path: http ? question.path : "/grpc.health.v1.Health/Check",
    authority: changed ?? ((http ? question.host : question.authority) || cluster),
    version: "HTTP/1.1",
    headers,
    contentLength: -1,
    hasBody: !http,
    upgrade: undefined,
    expectContinue: false,
  };
}

const within = (ranges: readonly StatusRange[], status: number) =>
  ranges.some(({ start, end }) => status >= start && status < end);

function judge(
  question: HttpQuestion,
  answer: { readonly status: number; readonly fields: Headers; readonly body: Buffer },
): HealthAnswer {
  const { status, fields, body } = answer;
  if (question.kind === "http") {
    if (within(question.expected, status)) return { kind: "well" };
    const reason = `answered ${status}`;
    return within(question.retriable, status) ? { kind: "silent", reason } : { kind: "unwell", reason };
  }
  const code = headerValue(fields, "grpc-status");
  if (status !== 200 || code !== "0") {
    const message = headerValue(fields, "grpc-message");
    const why = message === undefined ? "" : ` (${message})`;
    return { kind: "unwell", reason: `answered ${status}, grpc-status ${code ?? "missing"}${why}` };
  }
  const state = servingStatus(body);
  return state === HealthCheckResponse_ServingStatus.SERVING
    ? { kind: "well" }
    : {
        kind: "unwell",
        reason: `says ${state === undefined ? "nothing that is known" : HealthCheckResponse_ServingStatus[state]}`,
      };
}

function servingStatus(body: Buffer): HealthCheckResponse_ServingStatus | undefined {
  if (body.length < 5 || body[0] !== 0 || body.length < 5 + body.readUInt32BE(1)) return undefined;
  try {
    return fromBinary(HealthCheckResponseSchema, body.subarray(5, 5 + body.readUInt32BE(1))).status;
  } catch {
    // The decoder throws on bytes that are no such message, and nothing else: an answer all the same, of no meaning.
    return undefined;
  }
}

/** Well is who takes the connection, and says in time all that is asked for, in order. */
function askTcp(
  { send, receive }: Extract<Question, { kind: "tcp" }>,
  { socket }: UpstreamSocket,
  limit: Stop,
): Promise<HealthAnswer> {
  if (receive.length === 0) {
    if (send) socket.end(send);
    else socket.destroy();
    socket.on("error", () => {});
    return Promise.resolve({ kind: "well" });
  }
  return new Promise((resolve, reject) => {
    let got = Buffer.alloc(0);
    const settle = (act: () => void) => {
      limit.removeEventListener("abort", onAbort);
      socket.destroy();
      act();
    };
    const onAbort = () => settle(() => reject(limit.reason));
    limit.addEventListener("abort", onAbort, { once: true });
    socket.on("error", (error: Error) => settle(() => reject(error)));
    socket.on("end", () => settle(() => resolve({ kind: "silent", reason: "ended before it said what is asked for" })));
    socket.on("data", (chunk: Buffer) => {
      got = Buffer.concat([got, chunk]);
      if (holdsInOrder(got, receive)) settle(() => resolve({ kind: "well" }));
      else if (got.length > mostBytes) settle(() => resolve({ kind: "silent", reason: "says too much else" }));
    });
    if (send) socket.write(send);
  });
}

function holdsInOrder(bytes: Buffer, wanted: readonly Buffer[]): boolean {
  let from = 0;
  for (const one of wanted) {
    const at = bytes.indexOf(one, from);
    if (at < 0) return false;
    from = at + one.length;
  }
  return true;
}
