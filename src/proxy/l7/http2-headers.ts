import type { Headers } from "./headers.ts";
import { limits, Refusal, type RequestHead } from "./message.ts";

// Fields that bind to a connection have no meaning in HTTP/2 (RFC 9113 §8.2.2), and the authority says what `host` does.
const hopByHop = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host"]);

const methodForm = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const pathForm = /^[\x21\x22\x24-\x7e]+$/;
const authorityForm = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]{1,5})?$/;

/** A block to send: `pseudo` first, then what may stand in HTTP/2 of the fields, then the length where it is told. */
export function blockOf(pseudo: string[], headers: Headers, contentLength: number): string[] {
  for (let i = 0; i < headers.length; i += 2) if (!hopByHop.has(headers[i]!)) pseudo.push(headers[i]!, headers[i + 1]!);
  if (contentLength >= 0) pseudo.push("content-length", String(contentLength));
  return pseudo;
}

/** A length as it may stand in a field: digits alone, and a number that is exact. */
function lengthOf(value: string): number | undefined {
  const length = /^[0-9]+$/.test(value) ? Number(value) : Number.NaN;
  return Number.isSafeInteger(length) ? length : undefined;
}

/** A request that is no HTTP/2: the stream is reset, and nobody is answered (RFC 9113 §8.1.1). */
export class Malformed extends Refusal {
  constructor(message: string) {
    super(400, "http2.protocol_error", message);
  }
}

/** What HTTP/2 could carry, and we do not pass on. */
const odd = (message: string) => new Refusal(400, "http2.codec_error", message);

/** A request from the fields of its block; `end` when nothing follows. Throws `Malformed`, or another `Refusal`. */
export function readRequest(fields: readonly string[], end: boolean): RequestHead {
  let method: string | undefined;
  let scheme: string | undefined;
  let pseudoAuthority: string | undefined;
  let pseudoPath: string | undefined;
  let at = 0;
  for (; at < fields.length && fields[at]!.charCodeAt(0) === 58; at += 2) {
    const value = fields[at + 1]!;
    switch (fields[at]) {
      case ":method":
        if (method !== undefined) throw new Malformed("two methods");
        method = value;
        break;
      case ":scheme":
        if (scheme !== undefined) throw new Malformed("two schemes");
        scheme = value;
        break;
      case ":authority":
        if (pseudoAuthority !== undefined) throw new Malformed("two authorities");
        pseudoAuthority = value;
        break;
      case ":path":
        if (pseudoPath !== undefined) throw new Malformed("two paths");
        pseudoPath = value;
        break;
      default:
        throw new Malformed(`the pseudo-field ${JSON.stringify(fields[at])}, which no request has`);
    }
  }
  if (method === undefined) throw new Malformed("no method");
  if (!methodForm.test(method)) throw odd("the method is no token");
  const headers: Headers = [];
  let host: string | undefined;
  let cookies = "";
  let contentLength = -1;
  let expectContinue = false;
  for (; at < fields.length; at += 2) {
    const name = fields[at]!;
    const value = fields[at + 1]!;
    switch (name) {
      case "host":
        if (host !== undefined && host.toLowerCase() !== value.toLowerCase()) throw new Malformed("two hosts");
        host = value;
        break;
      case "content-length": {
        const length = lengthOf(value);
        if (length === undefined) throw new Malformed("content-length is not a number of bytes");
        if (contentLength >= 0 && contentLength !== length) throw new Malformed("two lengths");
        contentLength = length;
        break;
      }
      case "expect":
        expectContinue = value.toLowerCase() === "100-continue" && !end;
        break;
      case "cookie":
        // HTTP/2 may split it; HTTP/1 may not (RFC 9113 §8.2.3).
        cookies = cookies === "" ? value : `${cookies}; ${value}`;
        break;
      case "te":
        if (value.toLowerCase() !== "trailers") throw new Malformed("te with more than trailers");
        headers.push(name, "trailers");
        break;
      case "connection":
      case "keep-alive":
      case "proxy-connection":
      case "transfer-encoding":
      case "upgrade":
        throw new Malformed(`the field ${name}, which HTTP/2 has not`);
      default:
        if (name.charCodeAt(0) === 58) throw new Malformed("a pseudo-field behind a field");
        headers.push(name, value);
    }
  }
  if (cookies !== "") headers.push("cookie", cookies);
  if (end && contentLength > 0) throw new Malformed("content-length tells of a body, and there is none");
  const connect = method === "CONNECT";
  if (connect ? scheme !== undefined || pseudoPath !== undefined : scheme === undefined || pseudoPath === undefined)
    throw new Malformed(connect ? "CONNECT with a scheme or a path" : "no scheme or no path");
  if (pseudoPath === "") throw new Malformed("an empty path");
  const authority = pseudoAuthority ?? host ?? "";
  const path = connect ? authority : pseudoPath!;
  if (path.length > limits.targetBytes)
    throw new Refusal(414, "uri_too_long", `the path is longer than ${limits.targetBytes} bytes`);
  if (!connect && (!pathForm.test(path) || (path[0] !== "/" && !(path === "*" && method === "OPTIONS"))))
    throw odd("the path is none");
  if (authority === "" || !authorityForm.test(authority)) throw odd("the authority is no host with an optional port");
  if (host !== undefined && host.toLowerCase() !== authority.toLowerCase())
    throw odd("the host and the authority differ");
  return {
    method,
    path,
    authority,
    version: "HTTP/2",
    headers,
    contentLength: end ? -1 : contentLength,
    hasBody: !end,
    upgrade: undefined,
    expectContinue,
  };
}

/** An answer's block; undefined when it is none. `contentLength` is −1 when it is not told. */
export function readResponse(
  fields: readonly string[],
): { readonly status: number; readonly headers: Headers; readonly contentLength: number } | undefined {
  if (fields[0] !== ":status" || !/^[1-9][0-9]{2}$/.test(fields[1]!)) return undefined;
  const headers: Headers = [];
  let contentLength = -1;
  for (let at = 2; at < fields.length; at += 2) {
    const name = fields[at]!;
    if (name.charCodeAt(0) === 58) return undefined;
    if (name === "content-length") {
      const length = lengthOf(fields[at + 1]!);
      if (length === undefined || (contentLength >= 0 && contentLength !== length)) return undefined;
      contentLength = length;
    } else if (!hopByHop.has(name) || name === "host") headers.push(name, fields[at + 1]!);
  }
  return { status: Number(fields[1]), headers, contentLength };
}

/** Trailers as they may be passed on; undefined when a pseudo-field is among them. */
export function readTrailers(fields: readonly string[]): Headers | undefined {
  const headers: Headers = [];
  for (let at = 0; at < fields.length; at += 2) {
    const name = fields[at]!;
    if (name.charCodeAt(0) === 58) return undefined;
    if (!hopByHop.has(name) && name !== "content-length") headers.push(name, fields[at + 1]!);
  }
  return headers;
}
