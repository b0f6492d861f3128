import { type ClientHttp2Session, connect } from "node:http2";
import type { Socket } from "node:net";
import { type EchoMessage, FrameReader, readEcho, writeEcho } from "../grpc-frame.ts";
import { dial } from "./dial.ts";
import { ClosedEarly, type GrpcOrder, type Result, within } from "./order.ts";

/** How many messages a streaming call sends, each after the answer to the one before. */
const streamed = 3;

export async function callGrpc(order: GrpcOrder, timeoutMs: number): Promise<Partial<Result>> {
  let session: ClientHttp2Session | undefined;
  const work = async () => {
    const socket: Socket = await dial(order.to);
    const own = connect(`http://${order.to}`, { createConnection: () => socket });
    session = own;
    own.on("error", () => {}); // The call says so too.
    return new Promise<Partial<Result>>((resolve, reject) => {
      const streaming = order.method === "stream";
      const query = order.query === undefined ? "" : `?${order.query}`;
      const call = own.request({
        ":method": "POST",
        ":path": `/isthmus.lab.echo.v1.Echo/${streaming ? "Chat" : "Say"}${query}`,
        "content-type": "application/grpc+proto",
        te: "trailers",
        ...order.headers,
      });
      const frames = new FrameReader();
      const replies: EchoMessage[] = [];
      let ending: Record<string, unknown> = {};
      const sendNext = () => {
        if (replies.length >= (streaming ? streamed : 1)) call.end();
        else call.write(writeEcho({ text: order.message }));
        if (!streaming) call.end();
      };
      call.once("error", reject);
      call.on("response", (headers) => {
        ending = { ...ending, ...headers };
      });
      call.on("trailers", (trailers) => {
        ending = { ...ending, ...trailers };
      });
      call.on("data", (chunk: Buffer) => {
        try {
          for (const bytes of frames.take(chunk)) {
            replies.push(readEcho(bytes));
            if (streaming) sendNext();
          }
        } catch (caught) {
          reject(caught as Error);
        }
      });
      call.on("close", () => {
        if (ending[":status"] === undefined) return reject(new ClosedEarly("the call ended without an answer"));
        const headers = Object.entries(ending).filter(([name]) => !name.startsWith(":"));
        resolve({
          status: Number(ending[":status"]),
          headers: Object.fromEntries(headers.map(([name, value]) => [name, String(value)])),
          messages: replies.map(({ text }) => text),
          ...(ending["grpc-status"] === undefined ? {} : { grpcStatus: Number(ending["grpc-status"]) }),
          ...(replies[0]?.servedBy ? { servedBy: replies[0].servedBy } : {}),
          ...(socket.localPort === undefined ? {} : { localPort: socket.localPort }),
        });
      });
      sendNext();
    });
  };
  try {
    return await within(timeoutMs, work(), () => session?.destroy());
  } finally {
    session?.destroy();
  }
}
