import { type Headers, removeHeader } from "./headers.ts";
import { limits, Refusal, type RequestHead, type ResponseHead } from "./message.ts";

/*
 * The head of an HTTP/1 message (RFC 9112), read in one pass and strictly in both directions: what two readers could
 * read in two ways is refused, so that nothing is smuggled past us.
 */

/** What the connection must know of a request beside its meaning. */
export interface Http1Request extends RequestHead {
  chunked: boolean;
  /** The client would send more requests on this connection. */
  keepAlive: boolean;
}

export interface Http1Response extends ResponseHead {
  chunked: boolean;
  keepAlive: boolean;
  upgrade: string | undefined;
}

// 1: a character of a token (RFC 9110 §5.6.2); 2: the same, upper case.
const token = new Uint8Array(256);
for (const c of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") token[c.charCodeAt(0)] = 1;
for (const c of "ABCDEFGHIJKLMNOPQRSTUVWXYZ") token[c.charCodeAt(0)] = 2;
// 1: may stand in a field value: tab, visible, space, obs-text.
const valueByte = new Uint8Array(256).fill(1, 0x20);
valueByte[0x09] = 1;
valueByte[0x7f] = 0;

const target = /^[\x21\x22\x24-\x7e]+$/;
const authorityForm = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]{1,5})?$/;

const refuse = (message: string, details = "http1.codec_error", status = 400): never => {
  throw new Refusal(status, details, message);
};

/** Shows bytes of a stranger: short, quoted, control characters spelled out. */
export function show(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

/** Where the blank line that ends a head begins, or −1; throws on a line that ends in a bare LF or is too long. */
export function endOfHead(bytes: Buffer, from: number, searchedTo: number, maxBytes: number): number {
  const end = bytes.indexOf("\r\n\r\n", Math.max(from, searchedTo - 3), "latin1");
  if (end >= 0) {
    if (end - from > maxBytes) tooLarge(bytes, from, maxBytes);
    return end;
  }
  for (let at = bytes.indexOf(10, Math.max(from, searchedTo)); at >= 0; at = bytes.indexOf(10, at + 1)) {
    if (at === from || bytes[at - 1] !== 13) refuse("a line ends in LF without CR");
  }
  if (bytes.length - from > maxBytes) tooLarge(bytes, from, maxBytes);
  return -1;
}

function tooLarge(bytes: Buffer, from: number, maxBytes: number): never {
  const line = bytes.indexOf("\r\n", from, "latin1");
  if (line < 0 || line - from > limits.targetBytes)
    return refuse(`the request line is longer than ${limits.targetBytes} bytes`, "uri_too_long", 414);
  return refuse(`the header fields are larger than ${maxBytes} bytes`, "request_headers_too_large", 431);
}

interface Fields {
  headers: Headers;
  contentLength: number;
  transferEncoding: string | undefined;
  connection: string | undefined;
  host: string | undefined;
  upgrade: string | undefined;
  expect: string | undefined;
}

/** Reads fields from `at`; `text` ends with the CRLF of the last one. */
function readFields(text: string, at: number, trailers: boolean): Fields {
  const headers: Headers = [];
  const fields: Fields = {
    headers,
    contentLength: -1,
    transferEncoding: undefined,
    connection: undefined,
    host: undefined,
    upgrade: undefined,
    expect: undefined,
  };
  const length = text.length;
  let count = 0;
  let i = at;
  while (i < length) {
    if (++count > limits.fields) refuse(`more than ${limits.fields} header fields`, "request_headers_too_many", 431);
    const start = i;
    let upper = 0;
    let kind = token[text.charCodeAt(i)];
    while (kind) {
      upper |= kind;
      kind = token[text.charCodeAt(++i)];
    }
    if (i === start || text.charCodeAt(i) !== 58) badName(text, start, i);
    const name = upper & 2 ? text.slice(start, i).toLowerCase() : text.slice(start, i);
    let code = text.charCodeAt(++i);
    while (code === 32 || code === 9) code = text.charCodeAt(++i);
    const valueStart = i;
    while (valueByte[code]) code = text.charCodeAt(++i);
    if (code !== 13 || text.charCodeAt(i + 1) !== 10)
      refuse(
        `header field ${show(name)} has the control character 0x${code.toString(16).padStart(2, "0")} in its value`,
      );
    let valueEnd = i;
    while (valueEnd > valueStart && (text.charCodeAt(valueEnd - 1) === 32 || text.charCodeAt(valueEnd - 1) === 9))
      valueEnd--;
    const value = text.slice(valueStart, valueEnd);
    i += 2;
    switch (name) {
      case "content-length":
        if (!trailers) fields.contentLength = contentLength(value, fields.contentLength);
        break;
      case "transfer-encoding":
        fields.transferEncoding = fields.transferEncoding === undefined ? value : `${fields.transferEncoding},${value}`;
        break;
      case "host":
        if (fields.host !== undefined) refuse("two Host fields");
        fields.host = value;
        break;
      case "connection":
        fields.connection = fields.connection === undefined ? value : `${fields.connection},${value}`;
        break;
      case "upgrade":
        fields.upgrade = fields.upgrade === undefined ? value : `${fields.upgrade},${value}`;
        break;
      case "expect":
        fields.expect = value;
        break;
      case "keep-alive":
      case "proxy-connection":
      case "http2-settings":
        break;
      case "te":
        // The only coding that passes a hop is the promise to read trailers; gRPC needs it.
        if (/(?:^|[,\s])trailers(?:$|[,;\s])/i.test(value)) headers.push("te", "trailers");
        break;
      default:
        headers.push(name, value);
    }
  }
  return fields;
}

function badName(text: string, start: number, at: number): never {
  const line = text.slice(start, text.indexOf("\r\n", start));
  if (text.charCodeAt(start) === 32 || text.charCodeAt(start) === 9)
    return refuse(`a folded header line: ${show(line)}`);
  if (text.charCodeAt(at) === 32 || text.charCodeAt(at) === 9)
    return refuse(`a space before the colon of a header field: ${show(line)}`);
  return refuse(`not a header field: ${show(line)}`);
}

/** RFC 9110 §8.6: digits only. The same number told again is one; another one is refused. */
function contentLength(value: string, before: number): number {
  for (const part of value.includes(",") ? value.split(",").map((item) => item.trim()) : [value]) {
    if (!/^[0-9]{1,15}$/.test(part)) refuse(`content-length ${show(value)} is not a number of bytes`);
    const number = Number(part);
    if (before >= 0 && number !== before) refuse(`content-length is both ${before} and ${number}`);
    before = number;
  }
  return before;
}

function isChunked(fields: Fields, what: string): boolean {
  if (fields.transferEncoding === undefined) return false;
  if (fields.contentLength >= 0) refuse(`${what} has both transfer-encoding and content-length`);
  if (fields.transferEncoding.toLowerCase() !== "chunked")
    refuse(`transfer-encoding ${show(fields.transferEncoding)} is not known`, "http1.invalid_transfer_encoding", 501);
  return true;
}

const keptByUs = new Set(["te", "upgrade", "close", "keep-alive", "http2-settings"]);

/** Fields that the sender bound to this hop are not for the next one (RFC 9110 §7.6.1). */
function connectionOptions(fields: Fields): { close: boolean; keepAlive: boolean; upgrade: boolean } {
  if (fields.connection === undefined) return none;
  const plain = fields.connection;
  if (plain === "keep-alive" || plain === "Keep-Alive") return keepAliveOnly;
  const found = { close: false, keepAlive: false, upgrade: false };
  for (const part of plain.split(",")) {
    const option = part.trim().toLowerCase();
    if (option === "close") found.close = true;
    else if (option === "keep-alive") found.keepAlive = true;
    else if (option === "upgrade") found.upgrade = true;
    if (option !== "" && !keptByUs.has(option)) removeHeader(fields.headers, option);
  }
  return found;
}
const none = { close: false, keepAlive: false, upgrade: false };
const keepAliveOnly = { close: false, keepAlive: true, upgrade: false };

/** `text` is the head as Latin-1, without the blank line, with the CRLF before it. */
export function parseRequestHead(text: string): Http1Request {
  const lineEnd = text.indexOf("\r\n");
  const line = text.slice(0, lineEnd);
  const space = line.indexOf(" ");
  const lastSpace = line.length - 9;
  const version = line.slice(lastSpace + 1);
  if (space <= 0 || lastSpace <= space || line.charCodeAt(lastSpace) !== 32) badRequestLine(line);
  if (version !== "HTTP/1.1" && version !== "HTTP/1.0") badRequestLine(line);
  for (let i = 0; i < space; i++) if (!token[line.charCodeAt(i)]) badRequestLine(line);
  const method = line.slice(0, space);
  let path = line.slice(space + 1, lastSpace);
  if (path.length > limits.targetBytes)
    refuse(`the request target is longer than ${limits.targetBytes} bytes`, "uri_too_long", 414);
  if (!target.test(path)) refuse(`the request target ${show(path)} has characters that no target has`);

  const fields = readFields(text, lineEnd + 2, false);
  const http11 = version === "HTTP/1.1";
  if (http11 && fields.host === undefined) refuse("no Host field");
  const chunked = isChunked(fields, "the request");
  if (chunked && !http11) refuse("transfer-encoding in HTTP/1.0");
  const options = connectionOptions(fields);

  let authority = fields.host ?? "";
  let absolute = false;
  if (method === "CONNECT") {
    if (!authorityForm.test(path)) refuse(`CONNECT wants host:port, got ${show(path)}`);
    authority = path;
  } else if (path.charCodeAt(0) !== 47) {
    if (path === "*" && method === "OPTIONS") {
      // The server as a whole.
    } else {
      const url = /^https?:\/\/([^/?]*)(.*)$/i.exec(path);
      if (!url) refuse(`the request target ${show(path)} is neither a path nor a URL`);
      const [, host, rest] = url as unknown as [string, string, string];
      if (fields.host !== undefined && fields.host.toLowerCase() !== host.toLowerCase())
        refuse(`the target names ${show(host)}, the Host field ${show(fields.host)}`);
      authority = host;
      absolute = true;
      path = rest === "" ? "/" : rest.startsWith("/") ? rest : `/${rest}`;
    }
  }
  if (authority !== "" && !authorityForm.test(authority))
    refuse(`${show(authority)} is not a host with an optional port`);
  if (authority === "" && http11 && method !== "OPTIONS") refuse("the Host field is empty");
  const expect = fields.expect?.toLowerCase();
  if (expect !== undefined && expect !== "100-continue")
    refuse(`expect ${show(expect)} is not known`, "expectation_failed", 417);
  return {
    method,
    path,
    authority,
    version,
    headers: fields.headers,
    contentLength: fields.contentLength,
    hasBody: chunked || fields.contentLength > 0,
    upgrade: options.upgrade && http11 ? fields.upgrade?.toLowerCase() : undefined,
    expectContinue: expect !== undefined && http11 && (chunked || fields.contentLength > 0),
    chunked,
    keepAlive: http11 ? !options.close : options.keepAlive && !options.close,
    absolute,
  };
}

function badRequestLine(line: string): never {
  return refuse(`not a request line of HTTP/1: ${show(line)}`);
}

/** `text` as for `parseRequestHead`. */
export function parseResponseHead(text: string): Http1Response {
  const lineEnd = text.indexOf("\r\n");
  const http11 = text.startsWith("HTTP/1.1 ");
  const status = Number(text.slice(9, 12));
  const after = text.charCodeAt(12);
  if ((!http11 && !text.startsWith("HTTP/1.0 ")) || !(status >= 100 && status <= 999) || (after !== 32 && after !== 13))
    refuse(`not a status line of HTTP/1: ${show(text.slice(0, Math.max(0, lineEnd)))}`, "upstream_protocol_error", 502);
  if (!/^[0-9]{3}$/.test(text.slice(9, 12)))
    refuse(`not a status: ${show(text.slice(9, 12))}`, "upstream_protocol_error", 502);
  const reason = after === 32 ? text.slice(13, lineEnd) : "";
  for (let i = 0; i < reason.length; i++)
    if (!valueByte[reason.charCodeAt(i)])
      refuse("a control character in the status line", "upstream_protocol_error", 502);
  const fields = readFields(text, lineEnd + 2, false);
  const chunked = isChunked(fields, "the response");
  const options = connectionOptions(fields);
  if (fields.host !== undefined) fields.headers.push("host", fields.host);
  return {
    status,
    reason,
    headers: fields.headers,
    contentLength: fields.contentLength,
    chunked,
    keepAlive: http11 ? !options.close : options.keepAlive && !options.close,
    upgrade: fields.upgrade?.toLowerCase(),
  };
}

/** Trailers: what frames, routes or authenticates a message may not come after it (RFC 9110 §6.5.1) and is dropped. */
export function parseTrailers(text: string): Headers {
  const { headers } = readFields(text, 0, true);
  for (const name of notInTrailers) removeHeader(headers, name);
  return headers;
}
const notInTrailers = ["te", "trailer", "authorization", "content-encoding", "content-type", "content-range", "cookie"];
