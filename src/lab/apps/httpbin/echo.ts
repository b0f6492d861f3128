import { createHash, randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { pipeline } from "node:stream/promises";
import { servedBy } from "../serve.ts";
import { bounded, type Call, type Route, sendJson } from "./route.ts";

/** How much of a body is said back. The rest is read and counted, never held. */
const longestEcho = 1 << 20;

const withBody = ["POST", "PUT", "PATCH", "DELETE"];

export const echoRoutes: readonly Route[] = [
  { methods: ["GET"], path: "/get", run: (call) => sendJson(call, describe(call)) },
  { methods: ["POST"], path: "/post", run: echoBody },
  { methods: ["PUT"], path: "/put", run: echoBody },
  { methods: ["PATCH"], path: "/patch", run: echoBody },
  { methods: ["DELETE"], path: "/delete", run: echoBody },
  { methods: ["GET", "TRACE", ...withBody], path: "/anything", run: echoAnything },
  { methods: ["GET", "TRACE", ...withBody], path: "/anything/*", run: echoAnything },
  { methods: ["GET"], path: "/headers", run: (call) => sendJson(call, { headers: headersOf(call.request) }) },
  { methods: ["GET"], path: "/ip", run: (call) => sendJson(call, { origin: originOf(call.request) }) },
  {
    methods: ["GET"],
    path: "/user-agent",
    run: (call) => sendJson(call, { "user-agent": call.request.headers["user-agent"] ?? null }),
  },
  { methods: ["GET"], path: "/uuid", run: (call) => sendJson(call, { uuid: randomUUID() }) },
  { methods: ["GET"], path: "/hostname", run: (call) => sendJson(call, { hostname: servedBy }) },
  { methods: ["GET", "POST"], path: "/delay/:seconds", run: delay },
  // Says the body back as it comes, so that both directions run at once.
  {
    methods: ["POST", "PUT"],
    path: "/echo",
    async run({ request, response }) {
      response.writeHead(200, { "Content-Type": request.headers["content-type"] ?? "application/octet-stream" });
      response.flushHeaders();
      await pipeline(request, response);
    },
  },
];

/** Headers as they were spelled, a name sent several times as one with its values joined by commas. */
export function headersOf(request: IncomingMessage): Record<string, string> {
  const values: Array<[name: string, value: string]> = [];
  const byName = new Map<string, [string, string]>();
  for (let i = 0; i + 1 < request.rawHeaders.length; i += 2) {
    const name = request.rawHeaders[i]!;
    const value = request.rawHeaders[i + 1]!;
    const known = byName.get(name.toLowerCase());
    if (known) known[1] += `,${value}`;
    else {
      const entry: [string, string] = [name, value];
      byName.set(name.toLowerCase(), entry);
      values.push(entry);
    }
  }
  // fromEntries defines what it is given, so that a header named `__proto__` is a header like any other.
  return Object.fromEntries(values.sort(([a], [b]) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1)));
}

/** Where the call came from: what proxies said of it, or the connection's other end. */
export function originOf(request: IncomingMessage): string {
  const forwarded = request.headers["x-forwarded-for"];
  const text = Array.isArray(forwarded) ? forwarded.join(", ") : forwarded;
  return text ?? (request.socket.remoteAddress ?? "").replace(/^::ffff:/, "");
}

/** A key given once is a text, a key given more often a list. */
export function listsOf(pairs: URLSearchParams): Record<string, string | string[]> {
  const entries = [...new Set(pairs.keys())].map((key): [string, string | string[]] => {
    const all = pairs.getAll(key);
    return [key, all.length === 1 ? all[0]! : all];
  });
  return Object.fromEntries(entries);
}

function describe(call: Call): Record<string, unknown> {
  const scheme = call.request.headers["x-forwarded-proto"] ?? "http";
  const query = call.query.toString() ? call.request.url!.slice(call.request.url!.indexOf("?")) : "";
  return {
    args: listsOf(call.query),
    headers: headersOf(call.request),
    origin: originOf(call.request),
    url: `${scheme}://${call.request.headers.host ?? "localhost"}${call.path}${query}`,
  };
}

async function echoBody(call: Call): Promise<void> {
  sendJson(call, { ...describe(call), ...(await describeBody(call)) });
}

async function echoAnything(call: Call): Promise<void> {
  sendJson(call, { ...describe(call), ...(await describeBody(call)), method: call.request.method });
}

async function delay(call: Call): Promise<void> {
  const body = await describeBody(call);
  const seconds = bounded(call.params["seconds"], [0, 60], 0);
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    // Nobody waits any more: the timer need not either.
    call.response.once("close", () => {
      clearTimeout(timer);
      resolve();
    });
  });
  if (!call.response.destroyed) sendJson(call, { ...describe(call), ...body });
}

/**
 * The body's parts. `?digest=sha256` adds the hash of the whole of it; `body_bytes` is its length, also where only its
 * beginning is said back.
 */
async function describeBody(call: Call): Promise<Record<string, unknown>> {
  const hash = call.query.get("digest") === "sha256" ? createHash("sha256") : undefined;
  const held: Buffer[] = [];
  let heldBytes = 0;
  let total = 0;
  for await (const chunk of call.request as AsyncIterable<Buffer>) {
    hash?.update(chunk);
    total += chunk.length;
    if (heldBytes >= longestEcho) continue;
    const part = chunk.subarray(0, longestEcho - heldBytes);
    heldBytes += part.length;
    held.push(part);
  }
  const bytes = Buffer.concat(held);
  const type = (call.request.headers["content-type"] ?? "").toLowerCase();
  const truncated = total > heldBytes;
  const isForm = type.startsWith("application/x-www-form-urlencoded") && !truncated;
  const isMultipart = type.startsWith("multipart/form-data") && !truncated;
  const parts = isMultipart ? await readMultipart(bytes, type) : undefined;
  return {
    data: isForm || parts ? "" : asText(bytes, type),
    files: parts?.files ?? {},
    form: parts?.form ?? (isForm ? listsOf(new URLSearchParams(bytes.toString("utf8"))) : {}),
    json: isForm || parts || truncated ? null : parsedJson(bytes),
    body_bytes: total,
    ...(truncated ? { data_truncated: true } : {}),
    ...(hash ? { sha256: hash.digest("hex") } : {}),
  };
}

/** The runtime reads multipart bodies itself; a body that it cannot read is said back as data. */
async function readMultipart(
  bytes: Buffer,
  type: string,
): Promise<{ readonly files: Record<string, string>; readonly form: Record<string, string> } | undefined> {
  try {
    const boundary = /boundary="?([^";]+)"?/i.exec(type)?.[1];
    if (!boundary) return undefined;
    // The type was lowered for comparing; the boundary is taken from the body, where its case is right.
    const actual = bytes.toString("latin1", 2, 2 + boundary.length);
    const data = await new Response(new Uint8Array(bytes), {
      headers: { "content-type": `multipart/form-data; boundary=${actual}` },
    }).formData();
    const files: Array<[string, string]> = [];
    const form: Array<[string, string]> = [];
    for (const [name, value] of data.entries()) {
      if (typeof value === "string") form.push([name, value]);
      else files.push([name, asText(Buffer.from(await value.arrayBuffer()), value.type)]);
    }
    return { files: Object.fromEntries(files), form: Object.fromEntries(form) };
  } catch {
    return undefined;
  }
}

/** Text as it is; bytes that are no UTF-8 as a data URL. */
function asText(bytes: Buffer, type: string): string {
  const text = bytes.toString("utf8");
  if (!text.includes("\ufffd")) return text;
  return `data:${type || "application/octet-stream"};base64,${bytes.toString("base64")}`;
}

function parsedJson(bytes: Buffer): unknown {
  if (bytes.length === 0) return null;
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return null; // No JSON: the well-known one says null as well.
  }
}
