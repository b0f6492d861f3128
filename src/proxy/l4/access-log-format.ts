import { formatSocketAddress, type SocketAddress } from "../../values/index.ts";
import type { AccessLogConfig, JsonFormat } from "../config/access-log.ts";
import type { AccessRecord } from "./access-log.ts";

type Value = string | number | undefined;
type Operator = (record: AccessRecord) => Value;

const address = (given: SocketAddress | undefined) => given && formatSocketAddress(given);

/** Many records begin in one millisecond. */
let lastTime = { ms: Number.NaN, iso: "" };
function isoTime(ms: number): string {
  if (lastTime.ms !== ms) lastTime = { ms, iso: new Date(ms).toISOString() };
  return lastTime.iso;
}

const list = (values: readonly string[] | undefined) => (values && values.length > 0 ? values.join(",") : undefined);

/** Envoy's command operators without arguments. One that nothing is known for is printed as absent. */
const operators: Readonly<Record<string, Operator>> = {
  START_TIME: ({ startMs }) => isoTime(startMs),
  DURATION: ({ durationMs }) => Math.round(durationMs),
  BYTES_RECEIVED: ({ bytesReceived }) => bytesReceived,
  BYTES_SENT: ({ bytesSent }) => bytesSent,
  RESPONSE_CODE: ({ responseCode }) => responseCode ?? 0,
  RESPONSE_FLAGS: ({ flags }) => list(flags),
  RESPONSE_CODE_DETAILS: ({ details }) => details,
  CONNECTION_TERMINATION_DETAILS: ({ termination }) => termination,
  UPSTREAM_TRANSPORT_FAILURE_REASON: ({ upstreamFailure }) => upstreamFailure,
  UPSTREAM_CLUSTER: ({ upstreamCluster }) => upstreamCluster,
  UPSTREAM_HOST: ({ upstreamHost }) => address(upstreamHost),
  UPSTREAM_LOCAL_ADDRESS: ({ upstreamLocal }) => address(upstreamLocal),
  UPSTREAM_PEER_URI_SAN: ({ upstreamPeerUri }) => upstreamPeerUri,
  UPSTREAM_REQUEST_ATTEMPT_COUNT: ({ attempts }) => attempts,
  PROTOCOL: ({ protocol }) => protocol,
  ROUTE_NAME: ({ routeName }) => routeName,
  REQUESTED_SERVER_NAME: ({ sni }) => sni,
  LISTENER_NAME: ({ listener }) => listener,
  DOWNSTREAM_REMOTE_ADDRESS: ({ downstreamRemote }) => address(downstreamRemote),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: ({ downstreamRemote }) => downstreamRemote.ip,
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: ({ downstreamRemote }) => address(downstreamRemote),
  DOWNSTREAM_LOCAL_ADDRESS: ({ downstreamLocal }) => address(downstreamLocal),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: ({ downstreamLocal }) => downstreamLocal.ip,
  DOWNSTREAM_LOCAL_PORT: ({ downstreamLocal }) => downstreamLocal.port,
  DOWNSTREAM_PEER_URI_SAN: ({ tls }) => list(tls?.peer?.uris),
  DOWNSTREAM_PEER_SUBJECT: ({ tls }) => tls?.peer?.subject || undefined,
  DOWNSTREAM_PEER_FINGERPRINT_256: ({ tls }) => tls?.peer?.sha256,
  DOWNSTREAM_LOCAL_URI_SAN: ({ tls }) => list(tls?.localUris),
  DOWNSTREAM_TLS_VERSION: ({ tls }) => tls?.version,
};

/** Operators that read a header: `REQ(X-ENVOY-ORIGINAL-PATH?:PATH):20`. */
const withArgument: Readonly<Record<string, (argument: string) => Operator>> = {
  REQ: (argument) => headerOperator(argument, (record, name) => requestValue(record, name)),
  RESP: (argument) => headerOperator(argument, (record, name) => record.responseHeader(name)),
  START_TIME: () => operators["START_TIME"]!,
  CLUSTER_METADATA: (argument) => {
    const [space = "", ...path] = argument.split(":");
    return ({ upstreamMetadata }) => scalarAt(upstreamMetadata?.[space], path);
  },
};

function scalarAt(value: unknown, path: readonly string[]): Value {
  let found = value;
  for (const key of path)
    found =
      typeof found === "object" && found !== null && Object.hasOwn(found, key)
        ? (found as Readonly<Record<string, unknown>>)[key]
        : undefined;
  return typeof found === "string" || typeof found === "number" ? found : undefined;
}

function headerOperator(argument: string, value: (record: AccessRecord, name: string) => Value): Operator {
  const [first = "", second] = argument.split("?").map((name) => name.trim().toLowerCase());
  return (record) => value(record, first) ?? (second === undefined ? undefined : value(record, second));
}

function requestValue(record: AccessRecord, name: string): Value {
  if (name === ":method") return record.method;
  if (name === ":path") return record.path;
  if (name === ":authority") return record.authority;
  return record.requestHeader(name);
}

/** A text with operators, cut into what is fixed and what is asked of a record. */
type Piece = string | Operator;

/** `%NAME%`, `%NAME(argument)%`, `%NAME(argument):length%`, `%%`. An operator that is not known prints as absent. */
export function compile(template: string): readonly Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  for (const match of template.matchAll(/%%|%([A-Z0-9_]+)(?:\(([^)]*)\))?(?::(\d+))?%/g)) {
    if (match.index > at) pieces.push(template.slice(at, match.index));
    at = match.index + match[0].length;
    const [whole, name, argument, length] = match;
    if (whole === "%%") {
      pieces.push("%");
      continue;
    }
    const operator: Operator =
      (argument === undefined ? operators[name!] : withArgument[name!]?.(argument)) ?? (() => undefined);
    const longest = length === undefined ? undefined : Number(length);
    pieces.push(
      longest === undefined
        ? operator
        : (record) => {
            const value = operator(record);
            return typeof value === "string" ? value.slice(0, longest) : value;
          },
    );
  }
  if (at < template.length) pieces.push(template.slice(at));
  return pieces;
}

const templates = new Map<string, readonly Piece[]>();

/** A text with operators as it is for one record; what is not known is empty. */
export function textOf(template: string, record: AccessRecord): string {
  let pieces = templates.get(template);
  if (!pieces) {
    // Templates come from configuration: there are few, unless it changes for weeks.
    if (templates.size >= 1000) templates.clear();
    pieces = compile(template);
    templates.set(template, pieces);
  }
  return pieces.map((piece) => (typeof piece === "string" ? piece : String(piece(record) ?? ""))).join("");
}

/** Makes the function that writes one record as one line, line feed included. */
export function formatter(format: AccessLogConfig["format"]): (record: AccessRecord) => string {
  if (format.kind === "text") {
    const pieces = compile(format.template);
    const absent = format.omitEmpty ? "" : "-";
    return (record) => {
      const text = pieces
        .map((piece) => (typeof piece === "string" ? piece : printable(String(piece(record) ?? absent))))
        .join("");
      return text.endsWith("\n") ? text : `${text}\n`;
    };
  }
  const write = jsonWriter(format.template, format.omitEmpty);
  return (record) => `${write(record) ?? "null"}\n`;
}

/** Makes the JSON text of a value; undefined stands for `null`, which a field may leave out. */
type JsonWriter = (record: AccessRecord) => string | undefined;

/** All that is known beforehand is text beforehand: a line is put together, never built as an object first. */
function jsonWriter(template: JsonFormat, omitEmpty: boolean): JsonWriter {
  if (typeof template === "string") {
    const pieces = compile(template);
    const [only] = pieces;
    // An operator alone keeps its type; within a text it is text.
    if (pieces.length === 1 && typeof only === "function") {
      // Most fields say the same as in the line before.
      let last = "";
      let lastText = '""';
      return (record) => {
        const value = only(record);
        if (typeof value !== "string") return value === undefined ? undefined : String(value);
        if (value === last) return lastText;
        last = value;
        lastText = jsonText(value);
        return lastText;
      };
    }
    if (pieces.every((piece) => typeof piece === "string")) {
      const fixed = jsonText(pieces.join(""));
      return () => fixed;
    }
    const absent = omitEmpty ? "" : "-";
    return (record) =>
      jsonText(pieces.map((piece) => (typeof piece === "string" ? piece : String(piece(record) ?? absent))).join(""));
  }
  if (Array.isArray(template)) {
    const items = template.map((item: JsonFormat) => jsonWriter(item, omitEmpty));
    return (record) => `[${items.map((item) => item(record) ?? "null").join(",")}]`;
  }
  if (typeof template === "object" && template !== null) {
    const fields = Object.entries(template).map(([key, value]) => ({
      key: `${jsonText(key)}:`,
      write: jsonWriter(value, omitEmpty),
    }));
    return (record) => {
      let line = "";
      for (const { key, write } of fields) {
        const value = write(record);
        if (value === undefined && omitEmpty) continue;
        line += line === "" ? `{${key}` : `,${key}`;
        line += value ?? "null";
      }
      return line === "" ? "{}" : `${line}}`;
    };
  }
  const fixed = template === null ? undefined : JSON.stringify(template);
  return () => fixed;
}

/** What stands in JSON as it is. */
const plainText = /^[ !#-[\]-~]*$/;
const jsonText = (text: string) => (plainText.test(text) ? `"${text}"` : quietControls(JSON.stringify(text)));

/** JSON leaves DEL and the C1 controls as they are; a terminal obeys them. */
const laterControls = /[\x7f-\x9f\u2028\u2029]/g;
const quietControls = (json: string) =>
  json.replace(laterControls, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const allControls = /[\x00-\x1f\x7f-\x9f\u2028\u2029]/g;

/** One line stays one line, whatever a caller put into a header or a server name. */
function printable(text: string): string {
  return text.replace(allControls, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
