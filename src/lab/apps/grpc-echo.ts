// A gRPC echo over cleartext HTTP/2 (samples/grpc-echo/echo.proto), and a client for it.
//   grpc-echo.js                                            serves on PORT (7070)
//   grpc-echo.js client HOST:PORT [TEXT] [--stream N]       one call, or one call of N messages each way
import { connect, createServer, type Http2Server } from "node:http2";
import { dial } from "./dial.ts";
import { answerGrpc, service, status } from "./grpc-answer.ts";
import { type EchoMessage, FrameReader, readEcho, writeEcho } from "./grpc-frame.ts";
import { fail, portsFrom, servedBy, serveUntilStopped } from "./serve.ts";
import { isProgram, parseTarget } from "./target.ts";

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
