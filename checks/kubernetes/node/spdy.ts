import type { Duplex } from "node:stream";
import { constants, createDeflate, createInflate } from "node:zlib";
import { spdyDictionary } from "./spdy-dictionary.ts";

/** A stream that the caller has opened. */
export interface SpdyStream {
  readonly id: number;
  readonly headers: ReadonlyMap<string, string>;
  /** `last` ends our side of it. */
  write(bytes: Buffer, last: boolean): void;
  onData(take: (bytes: Buffer) => void): void;
  /** The caller's side of it is at its end. */
  onEnd(ended: () => void): void;
}

const synStream = 1;
const synReply = 2;
const rstStream = 3;
const ping = 6;
const goAway = 7;
const final = 1;

/** The kubelet's end of SPDY/3.1 as kubectl's port-forward speaks it: no flow control, no priorities. */
export function serveSpdy(socket: Duplex, head: Buffer, onStream: (stream: SpdyStream) => void): void {
  const inflate = createInflate({ dictionary: spdyDictionary });
  const deflate = createDeflate({ dictionary: spdyDictionary });
  const takers = new Map<number, { data: (bytes: Buffer) => void; end: () => void }>();
  const fail = () => {
    socket.destroy();
  };
  inflate.on("error", fail);
  deflate.on("error", fail);
  socket.on("close", () => {
    for (const { end } of takers.values()) end();
    takers.clear();
  });

  const control = (type: number, flags: number, body: Buffer) => {
    const header = Buffer.alloc(8);
    header.writeUInt16BE(0x8003, 0);
    header.writeUInt16BE(type, 2);
    header.writeUInt32BE(body.length, 4);
    header.writeUInt8(flags, 4);
    if (!socket.destroyed) socket.write(Buffer.concat([header, body]));
  };
  const data = (id: number, bytes: Buffer, last: boolean) => {
    const header = Buffer.alloc(8);
    header.writeUInt32BE(id, 0);
    header.writeUInt32BE(bytes.length, 4);
    header.writeUInt8(last ? final : 0, 4);
    if (!socket.destroyed) socket.write(Buffer.concat([header, bytes]));
  };

  const open = async (flags: number, body: Buffer) => {
    const id = body.readUInt32BE(0);
    const headers = readHeaders(await outputOf(inflate, (done) => inflate.write(body.subarray(10), done)));
    // No headers: their number, which is none.
    const compressed = await outputOf(deflate, (done) => {
      deflate.write(Buffer.alloc(4));
      deflate.flush(constants.Z_SYNC_FLUSH, done);
    });
    const reply = Buffer.alloc(4);
    reply.writeUInt32BE(id, 0);
    const early: Buffer[] = [];
    let ended = (flags & final) !== 0;
    const taker = {
      data: (bytes: Buffer) => {
        early.push(bytes);
      },
      end: () => {
        ended = true;
      },
    };
    takers.set(id, taker);
    control(synReply, 0, Buffer.concat([reply, compressed]));
    onStream({
      id,
      headers,
      write: (bytes, last) => data(id, bytes, last),
      onData: (take) => {
        for (const bytes of early.splice(0)) take(bytes);
        taker.data = take;
      },
      onEnd: (told) => {
        if (ended) told();
        else taker.end = told;
      },
    });
  };

  const frame = async (header: Buffer, body: Buffer): Promise<void> => {
    const flags = header.readUInt8(4);
    if ((header.readUInt8(0) & 0x80) === 0) {
      const id = header.readUInt32BE(0);
      if (body.length > 0) takers.get(id)?.data(body);
      if ((flags & final) !== 0) takers.get(id)?.end();
      return;
    }
    switch (header.readUInt16BE(2)) {
      case synStream:
        await open(flags, body);
        return;
      case rstStream:
        takers.get(body.readUInt32BE(0))?.end();
        takers.delete(body.readUInt32BE(0));
        return;
      case ping:
        control(ping, 0, body);
        return;
      case goAway:
        socket.end();
    }
  };

  let pending = head;
  let working: Promise<void> = Promise.resolve();
  const take = () => {
    while (pending.length >= 8) {
      const length = pending.readUInt32BE(4) & 0xffffff;
      if (pending.length < 8 + length) return;
      const [header, body] = [pending.subarray(0, 8), pending.subarray(8, 8 + length)];
      pending = pending.subarray(8 + length);
      // Headers are compressed as one text over all frames, so frames are read one after the other.
      working = working.then(() => frame(header, body)).catch(fail);
    }
  };
  socket.on("data", (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    take();
  });
  take();
}

/** What comes out of a codec for what is put in. */
function outputOf(codec: Duplex, put: (done: () => void) => void): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const take = (chunk: Buffer) => {
      chunks.push(chunk);
    };
    codec.on("data", take);
    put(() => {
      // The last of it may be told a moment after it is done.
      setImmediate(() => {
        codec.off("data", take);
        resolve(Buffer.concat(chunks));
      });
    });
  });
}

function readHeaders(block: Buffer): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  let at = 4;
  const next = () => {
    const length = block.readUInt32BE(at);
    const text = block.toString("utf8", at + 4, at + 4 + length);
    at += 4 + length;
    return text;
  };
  for (let left = block.readUInt32BE(0); left > 0; left--) headers.set(next().toLowerCase(), next());
  return headers;
}
