import { Failure } from "../base/index.ts";
import { derSizeLimit } from "./der.ts";

/** Largest PEM text in characters: a bundle of a hundred roots. */
const textLimit = 1024 * 1024;

export interface PemBlock {
  /** What stands after BEGIN: `CERTIFICATE`, `EC PRIVATE KEY`, … */
  readonly label: string;
  readonly der: Buffer;
}

/**
 * The blocks of a PEM text (RFC 7468) in order. Text between blocks is ignored, as `openssl x509 -text` writes it; inside
 * a block only base64 may stand. Throws `ca/pem-malformed`.
 */
export function decodePem(text: string): readonly PemBlock[] {
  if (text.length > textLimit) throw malformedPem(`${text.length} characters, more than ${textLimit}`);
  const blocks: PemBlock[] = [];
  let open: { readonly label: string; readonly lines: string[] } | undefined;
  for (const line of text.split(/\r?\n/)) {
    const mark = /^-----(BEGIN|END) ([A-Z0-9 ]{1,64})-----\s*$/.exec(line);
    if (!mark) {
      if (line.startsWith("-----")) throw malformedPem("a line of dashes that is neither BEGIN nor END");
      open?.lines.push(line.trim());
      continue;
    }
    const [, kind, label] = mark as unknown as [string, string, string];
    if (kind === "BEGIN") {
      if (open) throw malformedPem(`"${open.label}" does not end before "${label}" begins`);
      open = { label, lines: [] };
      continue;
    }
    if (open?.label !== label) throw malformedPem(`"END ${label}" ends nothing`);
    blocks.push({ label, der: decodeBody(open.lines, label) });
    open = undefined;
  }
  if (open) throw malformedPem(`"${open.label}" does not end`);
  return blocks;
}

function decodeBody(lines: readonly string[], label: string): Buffer {
  if (lines.some((line) => line.includes(":")))
    throw malformedPem(`"${label}" has headers, as keys under a passphrase have; take the passphrase off first`);
  const body = lines.join("");
  if (body.length === 0) throw malformedPem(`"${label}" is empty`);
  if (body.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(body)) throw malformedPem(`"${label}" is not base64`);
  const der = Buffer.from(body, "base64");
  if (der.length > derSizeLimit) throw malformedPem(`"${label}" has ${der.length} bytes, more than ${derSizeLimit}`);
  return der;
}

function malformedPem(why: string): Failure {
  return new Failure("ca/pem-malformed", `malformed PEM: ${why}`);
}

export function encodePem(label: string, der: Uint8Array): string {
  const body = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString("base64");
  return `-----BEGIN ${label}-----\n${body.replace(/(.{64})(?=.)/g, "$1\n")}\n-----END ${label}-----\n`;
}
