import type { IncomingMessage, ServerResponse } from "node:http";

export const methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "HEAD", "OPTIONS"] as const;

/** One request and what can be said to it. */
export interface Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly path: string;
  readonly query: URLSearchParams;
  /** What stood where the route's path has `:name`, decoded. */
  readonly params: Readonly<Record<string, string>>;
}

export interface Route {
  readonly methods: readonly string[];
  /** Segments; `:name` takes one, a last `*` takes any number. */
  readonly path: string;
  run(call: Call): void | Promise<void>;
}

export type Match =
  | { readonly kind: "route"; readonly route: Route; readonly call: Call }
  | { readonly kind: "method"; readonly allowed: readonly string[] } // The path is there, but not for this method.
  | { readonly kind: "none" };

/** Undefined when the target is no path, or its escapes are wrong. */
export function readCall(request: IncomingMessage, response: ServerResponse): Call | undefined {
  const target = request.url ?? "";
  const url = URL.canParse(target) ? new URL(target) : undefined;
  const [path, ...query] = (url ? `${url.pathname}${url.search}` : target).split("?");
  if (!path?.startsWith("/")) return undefined;
  return { request, response, path, query: new URLSearchParams(query.join("?")), params: {} };
}

export function matchRoute(routes: readonly Route[], call: Call): Match {
  const allowed = new Set<string>();
  const wanted = call.request.method === "HEAD" ? "GET" : (call.request.method ?? "");
  for (const route of routes) {
    const params = matchPath(route.path, call.path);
    if (!params) continue;
    if (route.methods.includes(wanted)) return { kind: "route", route, call: { ...call, params } };
    for (const method of route.methods) allowed.add(method);
  }
  return allowed.size > 0 ? { kind: "method", allowed: [...allowed] } : { kind: "none" };
}

function matchPath(pattern: string, path: string): Record<string, string> | undefined {
  const wanted = pattern.split("/");
  const given = path.split("/");
  const open = wanted[wanted.length - 1] === "*";
  if (open ? given.length < wanted.length - 1 : given.length !== wanted.length) return undefined;
  const params: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    if (part === "*") return params;
    const actual = given[index] ?? "";
    if (!part.startsWith(":")) {
      if (part !== actual) return undefined;
      continue;
    }
    try {
      params[part.slice(1)] = decodeURIComponent(actual);
    } catch {
      return undefined; // A wrong escape: no such path.
    }
  }
  return params;
}

/** Two spaces and a new line at the end, as the well-known one prints its JSON. */
export function sendJson(call: Call, value: unknown, status = 200): void {
  const text = `${JSON.stringify(value, undefined, 2)}\n`;
  call.response.writeHead(status, {
    "Content-Type": "application/json",
    "Content-Length": String(Buffer.byteLength(text)),
  });
  call.response.end(text);
}

export function sendText(call: Call, text: string, type = "text/plain; charset=utf-8", status = 200): void {
  call.response.writeHead(status, { "Content-Type": type, "Content-Length": String(Buffer.byteLength(text)) });
  call.response.end(text);
}

/** A whole number from text, brought into a range; `fallback` when it is no number. */
export function bounded(text: string | null | undefined, range: readonly [number, number], fallback: number): number {
  const number = Number(text);
  if (text === null || text === undefined || text === "" || !Number.isFinite(number)) return fallback;
  return Math.min(Math.max(number, range[0]), range[1]);
}
