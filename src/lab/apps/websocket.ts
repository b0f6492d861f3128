import { createHash, randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";

// The WebSocket protocol (RFC 6455), as much of both ends as an echo needs: text, binary, fragments, ping, close.

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** A message longer than this ends the connection with code 1009. */
const longestMessage = 16 * 2 ** 20;

/** The `sec-websocket-accept` that answers a `sec-websocket-key` (RFC 6455 §4.2.2). */
export function acceptKey(key: string): string {
  return createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
}

/** One whole frame. A client must mask what it sends, a server must not (RFC 6455 §5.1). */
export function encodeFrame(opcode: number, payload: Buffer, masked: boolean): Buffer {
  const length = payload.length;
  const extra = length < 126 ? 0 : length < 65536 ? 2 : 8;
  const head = Buffer.alloc(2 + extra + (masked ? 4 : 0));
  head[0] = 0x80 | opcode;
  head[1] = (masked ? 0x80 : 0) | (extra === 0 ? length : extra === 2 ? 126 : 127);
  if (extra === 2) head.writeUInt16BE(length, 2);
  if (extra === 8) head.writeBigUInt64BE(BigInt(length), 2);
  if (!masked) return Buffer.concat([head, payload]);
  const mask = randomBytes(4);
  mask.copy(head, 2 + extra);
  return Buffer.concat([head, unmask(payload, mask)]);
}

export interface WebSocketEvents {
  message(payload: Buffer, binary: boolean): void;
  pong?(payload: Buffer): void;
  /** Comes once, with 1006 when the connection broke without a close frame. */
  closed(code: number, reason: string): void;
}

/** Speaks frames over a connection whose handshake is done. */
export class WebSocketPeer {
  readonly #stream: Duplex;
  readonly #role: "client" | "server";
  readonly #events: WebSocketEvents;
  #pending = Buffer.alloc(0);
  #fragments: Buffer[] = [];
  #fragmentsLength = 0;
  #fragmentedOpcode: number | undefined;
  #ended = false;

  constructor(options: {
    readonly stream: Duplex;
    readonly role: "client" | "server";
    readonly head: Buffer;
    readonly events: WebSocketEvents;
  }) {
    this.#stream = options.stream;
    this.#role = options.role;
    this.#events = options.events;
    options.stream.on("data", (chunk: Buffer) => this.#take(chunk));
    options.stream.on("error", () => this.#end(1006, ""));
    options.stream.on("end", () => options.stream.end());
    options.stream.on("close", () => this.#end(1006, ""));
    if (options.head.length > 0) this.#take(options.head);
  }

  send(payload: Buffer | string, binary = typeof payload !== "string"): void {
    this.#write(binary ? opcodes.binary : opcodes.text, Buffer.from(payload as Buffer));
  }

  ping(payload = Buffer.alloc(0)): void {
    this.#write(opcodes.ping, payload);
  }

  close(code = 1000, reason = ""): void {
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code, 0);
    payload.write(reason, 2);
    this.#write(opcodes.close, payload);
    this.#stream.end();
  }

  #write(opcode: number, payload: Buffer): void {
    if (this.#stream.writableEnded || this.#stream.destroyed) return;
    // A peer that sends without reading is not read from until it reads.
    if (!this.#stream.write(encodeFrame(opcode, payload, this.#role === "client"))) {
      this.#stream.pause();
      this.#stream.once("drain", () => this.#stream.resume());
    }
  }

  #end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#events.closed(code, reason);
  }

  #refuse(code: number, reason: string): void {
    this.close(code, reason);
    this.#end(code, reason);
    this.#stream.destroy();
  }

  #take(chunk: Buffer): void {
    if (this.#ended) return;
    this.#pending = this.#pending.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#pending, chunk]);
    while (!this.#ended) {
      const frame = this.#nextFrame();
      if (!frame) return;
      this.#accept(frame);
    }
  }

  #nextFrame(): { final: boolean; opcode: number; payload: Buffer } | undefined {
    const bytes = this.#pending;
    if (bytes.length < 2) return undefined;
    if ((bytes[0]! & 0x70) !== 0) return this.#refuseFrame(1002, "reserved bits are set");
    const masked = (bytes[1]! & 0x80) !== 0;
    if (masked !== (this.#role === "server")) return this.#refuseFrame(1002, "wrong masking");
    let length = bytes[1]! & 0x7f;
    let at = 2;
    if (length === 126) {
      if (bytes.length < 4) return undefined;
      length = bytes.readUInt16BE(2);
      at = 4;
    } else if (length === 127) {
      if (bytes.length < 10) return undefined;
      length = Number(bytes.readBigUInt64BE(2));
      at = 10;
    }
    if (length > longestMessage) return this.#refuseFrame(1009, "message too long");
    const mask = masked ? bytes.subarray(at, at + 4) : undefined;
    at += masked ? 4 : 0;
    if (bytes.length < at + length) return undefined;
    const payload = bytes.subarray(at, at + length);
    this.#pending = bytes.subarray(at + length);
    return {
      final: (bytes[0]! & 0x80) !== 0,
      opcode: bytes[0]! & 0x0f,
      payload: mask ? unmask(payload, mask) : payload,
    };
  }

  #refuseFrame(code: number, reason: string): undefined {
    this.#refuse(code, reason);
    return undefined;
  }

  #accept({ final, opcode, payload }: { final: boolean; opcode: number; payload: Buffer }): void {
    if (opcode >= 8 && (!final || payload.length > 125)) {
      this.#refuse(1002, "bad control frame");
      return;
    }
    switch (opcode) {
      case opcodes.text:
      case opcodes.binary:
      case opcodes.continuation:
        this.#acceptData(final, opcode, payload);
        return;
      case opcodes.ping:
        this.#write(opcodes.pong, Buffer.from(payload));
        return;
      case opcodes.pong:
        this.#events.pong?.(payload);
        return;
      case opcodes.close: {
        const code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
        this.#write(opcodes.close, Buffer.from(payload));
        this.#stream.end();
        this.#end(code, payload.subarray(2).toString());
        return;
      }
      default:
        this.#refuse(1002, "unknown opcode");
    }
  }

  #acceptData(final: boolean, opcode: number, payload: Buffer): void {
    if ((opcode === opcodes.continuation) !== (this.#fragmentedOpcode !== undefined)) {
      this.#refuse(1002, "fragment out of order");
      return;
    }
    this.#fragments.push(Buffer.from(payload));
    this.#fragmentsLength += payload.length;
    if (this.#fragmentsLength > longestMessage || this.#fragments.length > 65536) {
      this.#refuse(1009, "message too long");
      return;
    }
    this.#fragmentedOpcode ??= opcode;
    if (!final) return;
    const message = Buffer.concat(this.#fragments);
    const binary = this.#fragmentedOpcode === opcodes.binary;
    this.#fragments = [];
    this.#fragmentsLength = 0;
    this.#fragmentedOpcode = undefined;
    this.#events.message(message, binary);
  }
}

function unmask(payload: Buffer, mask: Buffer): Buffer {
  const out = Buffer.allocUnsafe(payload.length);
  for (let i = 0; i < payload.length; i++) out[i] = payload[i]! ^ mask[i & 3]!;
  return out;
}
