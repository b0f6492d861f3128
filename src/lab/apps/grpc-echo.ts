// A gRPC echo over cleartext HTTP/2 (samples/grpc-echo/echo.proto), and a client for it.
//   grpc-echo.js                                            serves on PORT (7070)
//   grpc-echo.js client HOST:PORT [TEXT] [--stream N]       one call, or one call of N messages each way
import { connect, createServer, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { dial } from "./dial.ts";
import { type EchoMessage, FrameReader, readEcho, writeEcho } from "./grpc-frame.ts";
import { fail, portsFrom, servedBy, serveUntilStopped } from "./serve.ts";
import { isProgram, parseTarget } from "./target.ts";

const service = "/isthmus.lab.echo.v1.Echo";
/** Numbers of gRPC's status codes. */
const status = { ok: 0, invalidArgument: 3, unimplemented: 12, internal: 13, unavailable: 14 } as const;

export function grpcEchoServer(): Http2Server {
  const server = createServer();
  server.on("stream", (stream, headers) => {
    stream.on("error", () => stream.close());
    if (!String(headers["content-type"] ?? "").startsWith("application/grpc")) {
      stream.respond({ ":status": 415 }, { endStream: true });
      return;
    }
    answerGrpc(stream, headers, { servedBy });
  });
  return server;
}

/** Answers one call. `status` other than 200 is what a server says that fails before it has looked at the call. */
export function answerGrpc(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  options: { readonly servedBy: string; readonly status?: number },
): void {
  const path = String(headers[":path"] ?? "").split("?")[0];
  const caller = headers["x-forwarded-client-cert"];
  if (options.status !== undefined && options.status !== 200) {
    refuse(stream, options.status === 503 ? status.unavailable : status.internal, `asked for ${options.status}`);
  } else if (path === `${service}/Say` || path === `${service}/Chat`) {
    answer(stream, {
      streaming: path.endsWith("/Chat"),
      caller: typeof caller === "string" ? caller : "",
      servedBy: options.servedBy,
    });
  } else refuse(stream, status.unimplemented, `no method ${path}`);
}

/** Answers each message with one of the same text; trailers come when the client has ended its side. */
function answer(
  stream: ServerHttp2Stream,
  options: { readonly streaming: boolean; readonly caller: string; readonly servedBy: string },
): void {
  const { streaming, caller, servedBy } = options;
  const frames = new FrameReader();
  let count = 0;
  let outcome: number = status.ok;
  stream.respond(
    { ":status": 200, "content-type": "application/grpc+proto", "x-served-by": servedBy },
    { waitForTrailers: true },
  );
  stream.on("wantTrailers", () => {
    const bad = outcome === status.ok && !streaming && count !== 1 ? status.invalidArgument : outcome;
    stream.sendTrailers({ "grpc-status": String(bad), ...(bad === 0 ? {} : { "grpc-message": "bad request" }) });
  });
  stream.on("data", (chunk: Buffer) => {
    try {
      for (const bytes of frames.take(chunk)) {
        count++;
        const reply: EchoMessage = { text: readEcho(bytes).text, servedBy, caller };
        if (!stream.write(writeEcho(reply))) stream.pause();
      }
    } catch {
      outcome = status.internal;
      stream.end();
    }
  });
  stream.on("drain", () => stream.resume());
  stream.on("end", () => stream.end());
}

function refuse(stream: ServerHttp2Stream, code: number, message: string): void {
  stream.respond(
    { ":status": 200, "content-type": "application/grpc", "grpc-status": String(code), "grpc-message": message },
    { endStream: true },
  );
}

/** What a call brought: each reply, and the status that ended it. */
export interface EchoResult {
  readonly replies: readonly EchoMessage[];
  readonly grpcStatus: number;
  readonly grpcMessage: string;
}

/** Sends `texts`, each after the reply to the one before, so that both directions are open at once. */
export async function callEcho(options: {
  readonly target: string;
  readonly texts: readonly string[];
  readonly streaming: boolean;
}): Promise<EchoResult> {
  const { host, port } = parseTarget(options.target);
  const socket = await dial(host, port);
  const session = connect(`http://${options.target}`, { createConnection: () => socket });
  try {
    return await new Promise<EchoResult>((resolve, reject) => {
      session.on("error", reject);
      const call = session.request({
        ":method": "POST",
        ":path": `${service}/${options.streaming ? "Chat" : "Say"}`,
        "content-type": "application/grpc+proto",
        te: "trailers",
      });
      const frames = new FrameReader();
      const replies: EchoMessage[] = [];
      let httpStatus = 0;
      let ending: Record<string, unknown> = {};
      const sendNext = () => {
        const text = options.texts[replies.length];
        if (text === undefined) call.end();
        else call.write(writeEcho({ text }));
        if (!options.streaming) call.end();
      };
      call.on("error", reject);
      call.on("response", (headers) => {
        httpStatus = Number(headers[":status"]);
        ending = { ...ending, ...headers };
      });
      call.on("trailers", (trailers) => {
        ending = { ...ending, ...trailers };
      });
      call.on("data", (chunk: Buffer) => {
        for (const bytes of frames.take(chunk)) {
          replies.push(readEcho(bytes));
          if (options.streaming) sendNext();
        }
      });
      call.on("close", () => {
        if (httpStatus !== 200) return reject(new Error(`HTTP status ${httpStatus}`));
        const code = ending["grpc-status"];
        if (code === undefined) return reject(new Error("the call ended without a grpc-status"));
        resolve({ replies, grpcStatus: Number(code), grpcMessage: String(ending["grpc-message"] ?? "") });
      });
      sendNext();
    });
  } finally {
    session.destroy();
  }
}

async function client(args: readonly string[]): Promise<void> {
  const streamAt = args.indexOf("--stream");
  const count = streamAt < 0 ? 1 : Number(args[streamAt + 1]);
  const [target, text = "hello"] = streamAt < 0 ? args : args.filter((_, i) => i !== streamAt && i !== streamAt + 1);
  if (!target || !Number.isInteger(count)) fail("usage: grpc-echo client HOST:PORT [TEXT] [--stream N]");
  const texts = streamAt < 0 ? [text] : Array.from({ length: count }, (_, i) => `${text} ${i + 1}`);
  const result = await callEcho({ target, texts, streaming: streamAt >= 0 });
  for (const reply of result.replies) console.log(JSON.stringify(reply));
  console.log(`grpc-status: ${result.grpcStatus}${result.grpcMessage ? ` ${result.grpcMessage}` : ""}`);
  // Not process.exit: what was printed must reach a slow reader first.
  process.exitCode = result.grpcStatus === status.ok && result.replies.length === texts.length ? 0 : 1;
}

if (isProgram(import.meta.url)) {
  const [mode, ...rest] = process.argv.slice(2);
  if (mode === "client") {
    client(rest).catch((error: Error) => fail(`grpc-echo: ${error.message}`));
  } else {
    const ports = portsFrom(mode ?? process.env["PORT"] ?? "7070");
    void serveUntilStopped(
      "grpc-echo",
      ports.map((port) => ({ port, server: grpcEchoServer() })),
    );
  }
}
