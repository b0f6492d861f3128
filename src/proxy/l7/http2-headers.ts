import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http2";
import type { Headers } from "./headers.ts";

// Fields that have no meaning in HTTP/2 (RFC 9113 §8.2.2).
const hopByHop = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host"]);

/** Our list as Node's object. Repeats become arrays; `pseudo` comes first. */
export function toNode(
  pseudo: readonly string[],
  headers: Headers,
  contentLength: number,
  expectContinue: boolean,
): OutgoingHttpHeaders {
  const out = Object.create(null) as Record<string, string | string[] | number>;
  for (let i = 0; i < pseudo.length; i += 2) out[pseudo[i]!] = pseudo[i + 1]!;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (hopByHop.has(name)) continue;
    const value = headers[i + 1]!;
    const there = out[name];
    if (there === undefined) out[name] = value;
    else if (Array.isArray(there)) there.push(value);
    else out[name] = single.has(name) ? (there as string) : [String(there), value];
  }
  if (contentLength >= 0) out["content-length"] = String(contentLength);
  if (expectContinue) out["expect"] = "100-continue";
  return out;
}

// Node throws on an array for these.
const single = new Set(
  "access-control-allow-credentials access-control-max-age access-control-request-method age authorization content-encoding content-language content-location content-md5 content-range content-type date dnt etag expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards proxy-authorization range referer retry-after tk upgrade-insecure-requests user-agent x-content-type-options".split(
    " ",
  ),
);

/** Node's object as our list, pseudo-fields and length apart. */
export function fromNode(incoming: IncomingHttpHeaders): {
  readonly status: number;
  readonly headers: Headers;
  readonly contentLength: number;
} {
  const headers: Headers = [];
  let contentLength = -1;
  for (const name in incoming) {
    const value = incoming[name];
    if (value === undefined || name.charCodeAt(0) === 58) continue;
    if (name === "content-length") contentLength = Number(value);
    else if (Array.isArray(value)) for (const one of value) headers.push(name, one);
    else headers.push(name, value);
  }
  return { status: Number(incoming[":status"] ?? 0), headers, contentLength };
}
