import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { servedBy } from "../serve.ts";
import { acceptKey, WebSocketPeer } from "../websocket.ts";
import { authRoutes } from "./auth.ts";
import { bodyRoutes } from "./bodies.ts";
import { echoRoutes } from "./echo.ts";
import { type Call, matchRoute, methods, type Route, readCall } from "./route.ts";
import { statusRoutes } from "./statuses.ts";

const routes: readonly Route[] = [
  { methods: ["GET"], path: "/", run: (call) => sendIndex(call) },
  ...echoRoutes,
  ...statusRoutes,
  ...bodyRoutes,
  ...authRoutes,
];

export function httpbinServer(): Server {
  // An upload may take as long as it takes; only heads have a time limit.
  const server = createServer({ requestTimeout: 0, headersTimeout: 60_000, keepAliveTimeout: 75_000, noDelay: true });
  server.on("request", (request, response) => {
    serve(request, response).catch((error: Error) => {
      console.error(`${servedBy}: ${request.method} ${request.url}: ${error.message}`);
      if (!response.headersSent) response.writeHead(500).end();
      else response.destroy();
    });
  });
  server.on("upgrade", upgrade);
  server.on("clientError", (_error, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    else socket.destroy();
  });
  return server;
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.setHeader("Server", "isthmus-httpbin");
  response.setHeader("X-Served-By", servedBy);
  response.setHeader("Access-Control-Allow-Origin", request.headers.origin ?? "*");
  response.setHeader("Access-Control-Allow-Credentials", "true");
  const call = readCall(request, response);
  if (!call) {
    request.resume();
    response.writeHead(400, { "Content-Type": "text/plain" }).end("not a path\n");
    return;
  }
  const found = matchRoute(routes, call);
  switch (found.kind) {
    case "route":
      await found.route.run(found.call);
      // What a route did not read is thrown away, so that the connection can carry the next call.
      request.resume();
      return;
    case "method":
      request.resume();
      response.setHeader("Allow", [...found.allowed, "HEAD", "OPTIONS"].join(", "));
      if (request.method === "OPTIONS") {
        response.setHeader("Access-Control-Allow-Methods", methods.join(", "));
        response.setHeader("Access-Control-Max-Age", "3600");
        if (request.headers["access-control-request-headers"]) {
          response.setHeader("Access-Control-Allow-Headers", request.headers["access-control-request-headers"]);
        }
        response.writeHead(200, { "Content-Length": "0" }).end();
        return;
      }
      response.writeHead(405, { "Content-Type": "text/plain" }).end("method not allowed\n");
      return;
    case "none":
      request.resume();
      response.writeHead(404, { "Content-Type": "text/plain" }).end("not found\n");
      return;
  }
}

function sendIndex({ response }: Call): void {
  const lines = routes.map(({ methods, path }) => `${methods.join(",").padEnd(28)} ${path}`);
  response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" });
  response.end(`httpbin of the lab, on ${servedBy}\n\n${lines.join("\n")}\n${"GET (WebSocket)".padEnd(28)} /ws\n`);
}

/** `/ws` says each message back. */
function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const key = request.headers["sec-websocket-key"];
  const path = (request.url ?? "").split("?")[0];
  socket.on("error", () => socket.destroy());
  if (path !== "/ws" || request.headers.upgrade?.toLowerCase() !== "websocket" || !key) {
    socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${acceptKey(key)}\r\nX-Served-By: ${servedBy}\r\n\r\n`,
  );
  const peer = new WebSocketPeer({
    stream: socket,
    head,
    role: "server",
    events: {
      message: (payload, binary) => peer.send(payload, binary),
      closed() {},
    },
  });
}
