// gRPC's message framing (a flag byte and four bytes of length), and the one message of samples/grpc-echo/echo.proto.

/** The largest message that is taken. */
const longest = 4 * 2 ** 20;

/** `EchoMessage` of echo.proto. */
export interface EchoMessage {
  readonly text: string;
  /** The pod that answered. */
  readonly servedBy?: string;
  /** What the mesh said of the caller: the `x-forwarded-client-cert` that arrived. */
  readonly caller?: string;
}

const fields = ["text", "servedBy", "caller"] as const;

/** One message, framed. */
export function writeEcho(message: EchoMessage): Buffer {
  const parts: Buffer[] = [];
  fields.forEach((field, index) => {
    const value = message[field];
    if (!value) return;
    const bytes = Buffer.from(value);
    parts.push(Buffer.from([((index + 1) << 3) | 2]), varint(bytes.length), bytes);
  });
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

/** Throws when the bytes are no such message. Fields that it does not know are passed over. */
export function readEcho(bytes: Buffer): EchoMessage {
  const message: { text: string; servedBy?: string; caller?: string } = { text: "" };
  for (let at = 0; at < bytes.length; ) {
    const [tag, afterTag] = readVarint(bytes, at);
    const [value, afterValue] = readVarint(bytes, afterTag);
    at = afterValue;
    if ((tag & 7) === 0) continue;
    if ((tag & 7) !== 2 || at + value > bytes.length) throw new Error("not an echo message");
    const field = fields[(tag >>> 3) - 1];
    if (field) message[field] = bytes.toString("utf8", at, at + value);
    at += value;
  }
  return message;
}

/** Cuts a stream of bytes into messages. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #held = 0;
  #wanted = 5;

  take(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    const messages: Buffer[] = [];
    // Chunks are joined only when a whole message is there: a message that comes byte by byte costs no more than one.
    while (this.#held >= this.#wanted) {
      const bytes = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
      if (bytes[0] !== 0) throw new Error("compressed messages were not asked for");
      const length = bytes.readUInt32BE(1);
      if (length > longest) throw new Error(`a message of ${length} bytes is too long`);
      this.#wanted = 5 + length;
      this.#chunks = [bytes];
      if (bytes.length < this.#wanted) break;
      messages.push(bytes.subarray(5, this.#wanted));
      this.#chunks = [bytes.subarray(this.#wanted)];
      this.#held = bytes.length - this.#wanted;
      this.#wanted = 5;
    }
    return messages;
  }
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let left = value; ; left >>>= 7) {
    if (left < 128) return Buffer.from([...bytes, left]);
    bytes.push((left & 127) | 128);
  }
}

function readVarint(bytes: Buffer, from: number): [value: number, after: number] {
  let value = 0;
  for (let at = from, scale = 1; at < bytes.length && at < from + 5; at++, scale *= 128) {
    value += (bytes[at]! & 127) * scale;
    if (bytes[at]! < 128) return [value, at + 1];
  }
  throw new Error("not an echo message");
}
