import { lstatSync, unlinkSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect } from "node:net";
import { explain, Failure } from "./failure.ts";
import type { Scope } from "./scope.ts";

/** What a path of the admin server answers: text, or a value sent as JSON. */
export type AdminReply =
  | { readonly status?: number; readonly text: string; readonly contentType?: string }
  | { readonly status?: number; readonly json: unknown };

export interface AdminRequest {
  readonly query: URLSearchParams;
  readonly body: string;
}

/** A table of paths: `"GET /metrics"` to what answers it. */
export type AdminRoutes = Readonly<Record<string, (request: AdminRequest) => AdminReply | Promise<AdminReply>>>;

export type AdminAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** Largest request body in bytes: admin calls carry settings, not files. */
const bodyLimit = 4 * 1024 * 1024;

/**
 * Health, metrics and dumps of one process over HTTP/1.1, on a Unix socket or on loopback.
 * Resolves with the bound port (0 for a Unix socket). Throws a `Failure` when the address cannot be had.
 */
export async function startAdmin(
  options: { readonly address: AdminAddress; readonly routes: AdminRoutes },
  scope: Scope,
): Promise<number> {
  const server = createServer((request, response) => {
    answer(options.routes, request, response).catch((caught) => {
      if (response.headersSent) response.destroy();
      else send(response, { status: 500, text: `${explain(caught)}\n` });
    });
  });
  await listen(server, options.address);
  scope.defer(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  const bound = server.address();
  return bound !== null && typeof bound === "object" ? bound.port : 0;
}

/** Resolves when the address is ours. What happens to the server after that ends nothing. */
async function listen(server: Server, address: AdminAddress): Promise<void> {
  const where = "path" in address ? address.path : `${address.host}:${address.port}`;
  const tryIt = () =>
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(address, () => {
        server.off("error", reject);
        resolve();
      });
    });
  try {
    await tryIt().catch(async (cause: NodeJS.ErrnoException) => {
      if (!("path" in address) || cause.code !== "EADDRINUSE" || !(await isDeadSocket(address.path))) throw cause;
      unlinkSync(address.path);
      await tryIt();
    });
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const hint =
      code === "EADDRINUSE" ? { hint: "another process serves there; stop it, or choose another address" } : {};
    throw new Failure("admin/listen", `admin server cannot listen on "${where}": ${message}`, { cause, ...hint });
  }
  // Running out of descriptors is said by whoever needs one; an admin call that fails is asked again.
  server.on("error", () => {});
}

/** A process that was killed leaves its socket's file behind; nobody answers there any more. */
function isDeadSocket(path: string): Promise<boolean> {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return Promise.resolve(false);
  return new Promise((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve(false);
    });
    probe.once("error", (cause: NodeJS.ErrnoException) => resolve(cause.code === "ECONNREFUSED"));
  });
}

async function answer(routes: AdminRoutes, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const target = request.url ?? "/";
  if (!URL.canParse(target, "http://admin")) return send(response, { status: 400, text: `no path: "${target}"\n` });
  const url = new URL(target, "http://admin");
  const method = request.method === "HEAD" ? "GET" : request.method;
  const route = routes[`${method} ${url.pathname}`];
  if (!route) {
    const known = Object.keys(routes).sort().join("\n  ");
    return send(response, { status: 404, text: `nothing at "${method} ${url.pathname}"; there is\n  ${known}\n` });
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > bodyLimit) return send(response, { status: 413, text: `body above ${bodyLimit} bytes\n` });
    chunks.push(chunk as Buffer);
  }
  send(response, await route({ query: url.searchParams, body: Buffer.concat(chunks).toString("utf8") }));
}

function send(response: ServerResponse, reply: AdminReply): void {
  const [body, type] =
    "json" in reply
      ? [`${JSON.stringify(reply.json, null, 2)}\n`, "application/json"]
      : [reply.text, reply.contentType ?? "text/plain; charset=utf-8"];
  response.writeHead(reply.status ?? 200, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(body);
}
