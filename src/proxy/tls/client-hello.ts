/** What a ClientHello says in clear. */
export interface ClientHello {
  /** Lower case, without a trailing dot. Undefined when none was sent. */
  readonly sni: string | undefined;
  /** In the order of the client. Bytes outside ASCII are kept as Latin-1. */
  readonly alpn: readonly string[];
  /** Highest version offered, as on the wire: 0x0303 is TLS 1.2, 0x0304 TLS 1.3. */
  readonly version: number;
}

/** What the first bytes of a connection are, as far as TLS goes. */
export type HelloOutcome =
  | { readonly kind: "hello"; readonly hello: ClientHello }
  /** It may become one: at least so many bytes in all are needed to say more. */
  | { readonly kind: "more"; readonly need: number }
  /** It is something else. */
  | { readonly kind: "not-tls" }
  /** It began as TLS and cannot be taken. */
  | { readonly kind: "refused"; readonly reason: HelloRefusal };

export type HelloRefusal = "sslv2" | "too-old" | "too-large" | "malformed" | "bad-server-name";

/** Largest hello taken, in bytes. Post-quantum key shares make about 1.8 KiB; nothing honest is near this. */
export const helloLimit = 16 * 1024;

const handshake = 22;
const clientHello = 1;

/**
 * Reads a ClientHello from the first bytes of a connection, in as many segments and records as it came (RFC 8446 §4.1.2,
 * §5.1). Pure, opens nothing, and never throws: every prefix and every garbage has its outcome.
 */
export function readClientHello(bytes: Buffer): HelloOutcome {
  if (bytes.length === 0) return { kind: "more", need: 1 };
  if (bytes[0] !== handshake) return notTls(bytes);
  if (bytes.length < 3) return bytes.length > 1 && bytes[1] !== 3 ? { kind: "not-tls" } : { kind: "more", need: 5 };
  if (bytes[1] !== 3) return { kind: "not-tls" };
  const collected = collect(bytes);
  if (!Buffer.isBuffer(collected)) return collected;
  return readBody(collected);
}

/** An SSLv2 hello has a two-byte length with its top bit set, then 1 for client hello, then the version asked for. */
function notTls(bytes: Buffer): HelloOutcome {
  if (
    bytes[0]! >= 0x80 &&
    bytes.length >= 5 &&
    bytes[2] === clientHello &&
    (bytes[3] === 3 || (bytes[3] === 0 && bytes[4] === 2))
  )
    return { kind: "refused", reason: "sslv2" };
  return { kind: "not-tls" };
}

/** The handshake message's body, out of its records; or why it is not there. */
function collect(bytes: Buffer): Buffer | HelloOutcome {
  const parts: Buffer[] = [];
  let got = 0;
  let wanted: number | undefined;
  let at = 0;
  for (;;) {
    if (wanted !== undefined && got >= wanted) break;
    if (at + 5 > bytes.length) return more(bytes, at + 5);
    if (bytes[at] !== handshake || bytes[at + 1] !== 3) return { kind: "refused", reason: "malformed" };
    const length = bytes.readUInt16BE(at + 3);
    // RFC 8446 §5.1: no empty handshake records, none above 2^14.
    if (length === 0 || length > 16384) return { kind: "refused", reason: "malformed" };
    const end = at + 5 + length;
    const part = bytes.subarray(at + 5, Math.min(end, bytes.length));
    parts.push(part);
    got += part.length;
    if (wanted === undefined) {
      const head = parts.length === 1 ? part : Buffer.concat(parts);
      if (head.length >= 1 && head[0] !== clientHello) return { kind: "refused", reason: "malformed" };
      if (head.length >= 4) {
        wanted = 4 + head.readUIntBE(1, 3);
        if (wanted > helloLimit) return { kind: "refused", reason: "too-large" };
      }
    }
    if (end > bytes.length) {
      if (wanted !== undefined && got >= wanted) break;
      return more(bytes, end);
    }
    at = end;
  }
  return (parts.length === 1 ? parts[0]! : Buffer.concat(parts)).subarray(4, wanted);
}

function more(bytes: Buffer, need: number): HelloOutcome {
  // Many tiny records can stretch a small hello; their headers count towards the limit.
  return bytes.length >= 2 * helloLimit ? { kind: "refused", reason: "too-large" } : { kind: "more", need };
}

const malformed: HelloOutcome = { kind: "refused", reason: "malformed" };

/** Body of the message: version, random, session, ciphers, compressions, extensions. */
function readBody(body: Buffer): HelloOutcome {
  if (body.length < 35) return malformed;
  let version = body.readUInt16BE(0);
  let at = 34;
  at += 1 + body[at]!;
  if (at + 2 > body.length) return malformed;
  at += 2 + body.readUInt16BE(at);
  if (at + 1 > body.length) return malformed;
  at += 1 + body[at]!;
  if (at > body.length) return malformed;
  let sni: string | undefined;
  let alpn: readonly string[] = [];
  if (at < body.length) {
    if (at + 2 > body.length || at + 2 + body.readUInt16BE(at) !== body.length) return malformed;
    at += 2;
    const seen = new Set<number>();
    while (at < body.length) {
      if (at + 4 > body.length) return malformed;
      const type = body.readUInt16BE(at);
      const end = at + 4 + body.readUInt16BE(at + 2);
      if (end > body.length) return malformed;
      const content = body.subarray(at + 4, end);
      at = end;
      if (type !== 0 && type !== 16 && type !== 43) continue;
      // RFC 8446 §4.2: an extension comes once. Twice would let two readers see two names.
      if (seen.has(type)) return malformed;
      seen.add(type);
      if (type === 0) {
        const name = readServerName(content);
        if (typeof name !== "string") return name;
        sni = name;
      } else if (type === 16) {
        const names = readAlpn(content);
        if (!names) return malformed;
        alpn = names;
      } else {
        version = Math.max(version, highestVersion(content));
      }
    }
  }
  if (version < 0x0303) return { kind: "refused", reason: "too-old" };
  return { kind: "hello", hello: { sni, alpn, version } };
}

/** Exactly one host name (RFC 6066 §3), in the letters of host names; a literal NUL or a control character is refused. */
function readServerName(content: Buffer): string | HelloOutcome {
  if (content.length < 2 || content.readUInt16BE(0) !== content.length - 2) return malformed;
  if (content.length < 5 || content[2] !== 0) return malformed;
  const length = content.readUInt16BE(3);
  if (length === 0 || 5 + length !== content.length) return malformed;
  const text = content.toString("latin1", 5).toLowerCase().replace(/\.$/, "");
  return /^[a-z0-9_*-]([a-z0-9_.*-]*[a-z0-9_*-])?$/.test(text) && text.length <= 253 && !text.includes("..")
    ? text
    : { kind: "refused", reason: "bad-server-name" };
}

function readAlpn(content: Buffer): readonly string[] | undefined {
  if (content.length < 2 || content.readUInt16BE(0) !== content.length - 2) return undefined;
  const names: string[] = [];
  let at = 2;
  while (at < content.length) {
    const length = content[at]!;
    if (length === 0 || at + 1 + length > content.length) return undefined;
    names.push(content.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return names;
}

/** From supported_versions; values of the form 0x?a?a are grease (RFC 8701) and mean nothing. */
function highestVersion(content: Buffer): number {
  let highest = 0;
  for (let at = 1; at + 1 < content.length; at += 2) {
    const version = content.readUInt16BE(at);
    if ((version & 0x0f0f) !== 0x0a0a && version <= 0x0304 && version > highest) highest = version;
  }
  return highest;
}
