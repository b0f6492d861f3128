import type { Socket } from "node:net";
import { frame } from "../../../src/proxy/l7/testing/http2-frame.ts";
import { dial } from "./mesh.ts";

/* HTTP/2 frames by hand (RFC 9113 §6): a library would keep us from what an attacker does. */

export const types = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const endStream = 1;
export const endHeaders = 4;

export { frame };

export const uint32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};

/** HPACK's shortest way to say anything: literals that are not indexed, no Huffman coding (RFC 7541 §6.2.2). */
export function fields(pairs: ReadonlyArray<readonly [string, string]>): Buffer {
  const text = (value: string) => {
    const bytes = Buffer.from(value, "latin1");
    const prefix: number[] = [];
    if (bytes.length < 127) prefix.push(bytes.length);
    else {
      prefix.push(127);
      let rest = bytes.length - 127;
      while (rest >= 128) {
        prefix.push((rest % 128) + 128);
        rest = Math.floor(rest / 128);
      }
      prefix.push(rest);
    }
    return Buffer.concat([Buffer.from(prefix), bytes]);
  };
  return Buffer.concat(pairs.flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)]));
}

export const get = (path: string, more: ReadonlyArray<readonly [string, string]> = [], authority = "edge.example") =>
  fields([[":method", "GET"], [":scheme", "http"], [":authority", authority], [":path", path], ...more]);

export const headers = (stream: number, block: Buffer, flags: number = endStream | endHeaders) =>
  frame(types.headers, flags, stream, block);

export const setting = (id: number, value: number) => {
  const bytes = Buffer.alloc(6);
  bytes.writeUInt16BE(id);
  bytes.writeUInt32BE(value, 2);
  return bytes;
};

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** An attacker's HTTP/2 connection. */
export class RawHttp2 {
  readonly socket: Socket;
  /** Frames that came, but for DATA, of which only the bytes are counted. */
  readonly frames: Frame[] = [];
  readonly data = new Map<number, string>();
  dataBytes = 0;
  closed = false;
  #held: Buffer = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("end", () => socket.end());
    socket.on("close", () => {
      this.closed = true;
    });
  }

  /** Opens a connection with the preface and the given SETTINGS. */
  static async open(port: number, settings: Buffer = Buffer.alloc(0)): Promise<RawHttp2> {
    const made = new RawHttp2(await dial(port));
    made.socket.write(
      Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(types.settings, 0, 0, settings)]),
    );
    return made;
  }

  /** Writes, and waits for room: a flood must not fill our own memory. False when the connection is gone. */
  async send(bytes: Buffer): Promise<boolean> {
    if (this.closed || this.socket.destroyed) return false;
    if (!this.socket.write(bytes))
      await new Promise<void>((resolve) => {
        const done = () => {
          this.socket.off("drain", done).off("close", done);
          resolve();
        };
        this.socket.on("drain", done).on("close", done);
      });
    return !this.closed;
  }

  /** The error codes of the GOAWAYs that came. */
  get goaways(): readonly number[] {
    return this.frames.filter(({ type }) => type === types.goaway).map(({ payload }) => payload.readUInt32BE(4));
  }

  of(stream: number): readonly Frame[] {
    return this.frames.filter((one) => one.stream === stream);
  }

  close(): void {
    this.socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    while (this.#held.length >= 9) {
      const length = this.#held.readUIntBE(0, 3);
      if (this.#held.length < 9 + length) return;
      const payload = this.#held.subarray(9, 9 + length);
      const type = this.#held[3]!;
      const stream = this.#held.readUInt32BE(5) & 0x7fffffff;
      if (type === types.data) {
        this.dataBytes += payload.length;
        const before = this.data.get(stream) ?? "";
        if (before.length < 65536) this.data.set(stream, before + payload.toString("latin1"));
      } else if (this.frames.length < 20_000) {
        this.frames.push({ type, flags: this.#held[4]!, stream, payload: Buffer.from(payload) });
      }
      this.#held = this.#held.subarray(9 + length);
    }
  }
}
