import { randomBytes } from "node:crypto";
import { request } from "node:http";
import type { Socket } from "node:net";
import { acceptKey, WebSocketPeer } from "../websocket.ts";
import { dial } from "./dial.ts";
import { ClosedEarly, type Result, type WebSocketOrder, within } from "./order.ts";

/** Opens a WebSocket, sends the text, and ends when it is answered. An answer that is no upgrade is a result too. */
export async function callWebSocket(order: WebSocketOrder, timeoutMs: number): Promise<Partial<Result>> {
  const url = new URL(order.url);
  let socket: Socket | undefined;
  const work = async () => {
    const own = await dial(`${url.hostname}:${url.port || "80"}`);
    socket = own;
    const key = randomBytes(16).toString("base64");
    return new Promise<Partial<Result>>((resolve, reject) => {
      const call = request({
        createConnection: () => own,
        path: `${url.pathname}${url.search}`,
        headers: {
          host: url.host,
          connection: "Upgrade",
          upgrade: "websocket",
          "sec-websocket-key": key,
          "sec-websocket-version": "13",
          ...order.headers,
        },
      });
      const where = own.localPort === undefined ? {} : { localPort: own.localPort };
      call.once("error", reject);
      call.once("response", (response) => {
        response.resume();
        resolve({ status: response.statusCode ?? 0, headers: response.headers as Record<string, string>, ...where });
      });
      call.once("upgrade", (response, stream, head) => {
        if (response.headers["sec-websocket-accept"] !== acceptKey(key))
          return reject(new Error("the server's key does not answer ours"));
        const servedBy = response.headers["x-served-by"];
        const peer = new WebSocketPeer({
          stream,
          head,
          role: "client",
          events: {
            message: (payload) => {
              peer.close();
              resolve({
                status: 101,
                headers: response.headers as Record<string, string>,
                messages: [payload.toString()],
                ...(typeof servedBy === "string" ? { servedBy } : {}),
                ...where,
              });
            },
            closed: (code) => reject(new ClosedEarly(`closed with ${code} before the message came back`)),
          },
        });
        peer.send(order.send);
      });
      call.end();
    });
  };
  try {
    return await within(timeoutMs, work(), () => socket?.destroy());
  } finally {
    socket?.destroy();
  }
}
