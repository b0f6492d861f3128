// A WebSocket client for the echo at /ws: ws-client.js ws://HOST[:PORT]/PATH [TEXT] [--count N]
// Prints the status of the handshake and each message that comes back; exits 0 when all did.
import { randomBytes } from "node:crypto";
import { request } from "node:http";
import { dial } from "./dial.ts";
import { fail } from "./serve.ts";
import { isProgram } from "./target.ts";
import { acceptKey, type WebSocketEvents, WebSocketPeer } from "./websocket.ts";

/** Connects and upgrades. Rejects when the server answers with anything but 101. */
export async function openWebSocket(url: URL, events: WebSocketEvents): Promise<WebSocketPeer> {
  const port = Number(url.port) || 80;
  const socket = await dial(url.hostname.replace(/^\[|\]$/g, ""), port);
  const key = randomBytes(16).toString("base64");
  return new Promise((resolve, reject) => {
    const call = request({
      createConnection: () => socket,
      path: `${url.pathname}${url.search}`,
      headers: {
        Host: url.host,
        Connection: "Upgrade",
        Upgrade: "websocket",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
      },
    });
    call.once("error", reject);
    call.once("response", (response) => {
      socket.destroy();
      reject(new Error(`not upgraded: HTTP ${response.statusCode}`));
    });
    call.once("upgrade", (response, stream, head) => {
      if (response.headers["sec-websocket-accept"] !== acceptKey(key)) {
        stream.destroy();
        return reject(new Error("not upgraded: the server's key does not answer ours"));
      }
      resolve(new WebSocketPeer({ stream, head, role: "client", events }));
    });
    call.end();
  });
}

async function main(args: readonly string[]): Promise<void> {
  const countAt = args.indexOf("--count");
  const count = countAt < 0 ? 1 : Number(args[countAt + 1]);
  const [address, text = "hello"] = countAt < 0 ? args : args.filter((_, i) => i !== countAt && i !== countAt + 1);
  if (!address || !Number.isInteger(count)) fail("usage: ws-client ws://HOST[:PORT]/PATH [TEXT] [--count N]");
  let left = count;
  const peer = await openWebSocket(new URL(address), {
    message(payload) {
      console.log(payload.toString());
      left--;
      if (left === 0) peer.close();
      else peer.send(text);
    },
    closed(code, reason) {
      if (left > 0) fail(`ws-client: closed with ${code} ${reason} before all messages came back`);
      process.exit(0);
    },
  });
  console.log("101 Switching Protocols");
  peer.send(text);
}

if (isProgram(import.meta.url)) {
  main(process.argv.slice(2)).catch((error: Error) => fail(`ws-client: ${error.message}`));
}
