import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { type EchoMessage, FrameReader, readEcho, writeEcho } from "./grpc-frame.ts";

/** The service of samples/grpc-echo/echo.proto. */
export const service = "/isthmus.lab.echo.v1.Echo";
/** Numbers of gRPC's status codes. */
export const status = { ok: 0, invalidArgument: 3, unimplemented: 12, internal: 13, unavailable: 14 } as const;

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
