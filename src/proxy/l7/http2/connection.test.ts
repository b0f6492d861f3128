import { Duplex } from "node:stream";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ReadBuffers } from "../../l4/read-buffers.ts";
import { frame } from "../testing/http2-frame.ts";
import { Http2Connection, type Http2Events } from "./connection.ts";
import { FrameReader } from "./frame-reader.ts";
import { codes, flags, frameTypes, preface } from "./frames.ts";
import type { FieldBlock } from "./hpack-decoder.ts";
import type { Http2Stream, StreamEnd, StreamHandler } from "./stream.ts";

/** Two ends of one wire. What is written at one end is read at the other, in pieces of `cut` bytes at most. */
function wire(cut = 65_536): [Duplex, Duplex] {
  const make = (): Duplex & { far?: Duplex } => {
    const end: Duplex & { far?: Duplex } = new Duplex({
      allowHalfOpen: true,
      read() {},
      write(bytes: Buffer, _encoding, done) {
        // Bytes belong to whoever wrote them once `done` is called.
        const copy = Buffer.from(bytes);
        setImmediate(() => {
          for (let at = 0; at < copy.length; at += cut) end.far?.push(copy.subarray(at, at + cut));
          done();
        });
      },
      final(done) {
        end.far?.push(null);
        done();
      },
    });
    return end;
  };
  const [a, b] = [make(), make()];
  a.far = b;
  b.far = a;
  return [a, b];
}

const quiet: Http2Events = {
  onStream() {},
  onSettings() {},
  onPong() {},
  onGoaway() {},
  onCounted() {},
  onStreamClosed() {},
  onEnded() {},
};

function sideOf(
  side: "client" | "server",
  socket: Duplex,
  options: { readonly stream?: number; readonly connection?: number; readonly events?: Partial<Http2Events> } = {},
): Http2Connection {
  return new Http2Connection({
    side,
    socket,
    maxStreams: 100,
    windows: { stream: options.stream ?? 256 * 1024, connection: options.connection ?? 1024 * 1024 },
    head: { bytes: 60 * 1024, fields: 110 },
    events: { ...quiet, ...options.events },
  });
}

/** All that came on a stream. */
class Heard implements StreamHandler {
  readonly blocks: FieldBlock[] = [];
  readonly ended: Promise<Buffer>;
  readonly #pieces: Buffer[] = [];
  #settle!: { resolve: (bytes: Buffer) => void; reject: (why: Error) => void };
  readonly #onPiece: (() => void) | undefined;
  #drained: (() => void) | undefined;

  constructor(onPiece?: () => void) {
    this.#onPiece = onPiece;
    this.ended = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.ended.catch(() => {});
  }
  onFields(block: FieldBlock, end: boolean): void {
    this.blocks.push(block);
    if (end) this.onEnd();
  }
  onData(bytes: Buffer): void {
    this.#pieces.push(Buffer.from(bytes));
    this.#onPiece?.();
  }
  onEnd(): void {
    this.#settle.resolve(Buffer.concat(this.#pieces));
  }
  onDrain(): void {
    this.#drained?.();
  }
  onClosed(end: StreamEnd): void {
    this.#settle.reject(new Error(JSON.stringify(end)));
  }
  /** Sends the pieces: not before there is room, unless in haste. */
  async send(
    stream: Http2Stream,
    pieces: readonly Buffer[],
    { trailers, hasty = false }: { readonly trailers?: readonly string[]; readonly hasty?: boolean } = {},
  ): Promise<void> {
    for (const piece of pieces) {
      const drained = new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
      if (!stream.data(piece) && !hasty) await drained;
    }
    stream.end(trailers);
  }
}

const request = [":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/"];

describe("two sides of a connection", () => {
  test("whatever the windows, the pauses and the pieces, bodies arrive whole and in order, both ways", async () => {
    const body = fc.array(fc.integer({ min: 0, max: 70_000 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          bodies: fc.array(body, { minLength: 1, maxLength: 5 }),
          stream: fc.constantFrom(65_535, 70_000, 256 * 1024),
          connection: fc.constantFrom(65_535, 80_000, 1024 * 1024),
          cut: fc.constantFrom(7000, 16_393, 65_536),
          pauses: fc.boolean(),
          hasty: fc.boolean(),
          trailers: fc.boolean(),
        }),
        async ({ bodies, stream, connection, cut, pauses, hasty, trailers }) => {
          const [near, far] = wire(cut);
          const paused = (of: () => Http2Stream | undefined) => () => {
            const one = of();
            if (!pauses || !one) return;
            one.pause();
            setImmediate(() => one.resume());
          };
          // The server gives back what it gets, as it comes.
          const server = sideOf("server", far, {
            stream,
            connection,
            events: {
              onStream(opened, _block, end) {
                opened.fields([":status", "200"], end);
                if (end) return;
                const echo: StreamHandler = {
                  onFields: (block) => opened.end(block.kind === "fields" ? block.fields : undefined),
                  onData(bytes) {
                    if (!opened.data(bytes)) opened.pause();
                    else paused(() => opened)();
                  },
                  onEnd: () => opened.end(undefined),
                  onDrain: () => opened.resume(),
                  onClosed() {},
                };
                opened.handler = echo;
              },
            },
          });
          const client = sideOf("client", near, { stream, connection });
          server.start();
          client.start();
          await Promise.all(
            bodies.map(async (sizes, index) => {
              const pieces = sizes.map((size, at) => Buffer.alloc(size, index * 16 + at));
              let opened: Http2Stream | undefined;
              const heard = new Heard(paused(() => opened));
              opened = client.request(request, false);
              opened.handler = heard;
              await heard.send(opened, pieces, { hasty, ...(trailers ? { trailers: ["x-sum", "7"] } : {}) });
              expect((await heard.ended).equals(Buffer.concat(pieces))).toBe(true);
              if (trailers) expect(heard.blocks.at(-1)).toEqual({ kind: "fields", fields: ["x-sum", "7"] });
            }),
          );
          expect(client.active + server.active).toBe(0);
          client.destroy();
          server.destroy();
        },
      ),
      { numRuns: 60, seed: 20261129 },
    );
  });

  test("a stream that reads nothing holds up the others only when it has filled its own window", async () => {
    const [near, far] = wire();
    const opened: Http2Stream[] = [];
    const server = sideOf("server", far, { events: { onStream: (stream) => opened.push(stream) } });
    const client = sideOf("client", near);
    server.start();
    client.start();
    const slow = client.request(request, true);
    slow.handler = new Heard();
    slow.pause();
    const quick = client.request(request, true);
    const heard = new Heard();
    quick.handler = heard;
    while (opened.length < 2) await new Promise(setImmediate);
    for (const stream of opened) {
      stream.fields([":status", "200"], false);
      stream.handler = new Heard();
    }
    const much = Array.from({ length: 40 }, () => Buffer.alloc(50_000, 1));
    const held = (opened[0]!.handler as Heard).send(opened[0]!, much);
    await (opened[1]!.handler as Heard).send(opened[1]!, much);
    expect((await heard.ended).length).toBe(2_000_000);
    slow.resume();
    await held;
    expect((await (slow.handler as Heard).ended).length).toBe(2_000_000);
    client.destroy();
    server.destroy();
  });

  test("a GOAWAY tells streams that were never begun so, and lets the others finish", async () => {
    const [near, far] = wire();
    const opened: Http2Stream[] = [];
    let goaways = 0;
    const server = sideOf("server", far, { events: { onStream: (stream) => opened.push(stream) } });
    const client = sideOf("client", near, { events: { onGoaway: () => goaways++ } });
    server.start();
    client.start();
    const first = new Heard();
    client.request(request, true).handler = first;
    while (opened.length < 1) await new Promise(setImmediate);
    server.goaway("seen");
    const second = new Heard();
    client.request(request, true).handler = second;
    await expect(second.ended).rejects.toThrow("refused");
    expect(goaways).toBe(1);
    opened[0]!.fields([":status", "204"], true);
    await first.ended;
    expect(opened).toHaveLength(1);
    client.destroy();
    server.destroy();
  });

  test("an end that is told in order reaches the other side, with all that was said before", async () => {
    const [near, far] = wire();
    const why: string[] = [];
    const server = sideOf("server", far, {
      events: {
        onStream: (stream) => {
          stream.fields([":status", "200"], false);
          stream.data(Buffer.from("last words"));
          stream.end(undefined);
          server.close();
        },
      },
    });
    const client = sideOf("client", near, { events: { onEnded: (told) => why.push(told) } });
    server.start();
    client.start();
    const heard = new Heard();
    client.request(request, true).handler = heard;
    expect((await heard.ended).toString()).toBe("last words");
    while (why.length === 0) await new Promise(setImmediate);
    expect(why).toEqual(["the connection was ended by the other side"]);
  });
});

/** A server with a wire of its own, fed by hand; what it said is in `frames`, and of DATA in `data`. */
function fed(events: Partial<Http2Events> = {}) {
  const frames: Array<{
    readonly type: number;
    readonly flags: number;
    readonly stream: number;
    readonly payload: Buffer;
  }> = [];
  const data: Buffer[] = [];
  const told = new FrameReader({
    onFrame: (type, has, stream, payload) => frames.push({ type, flags: has, stream, payload: Buffer.from(payload) }),
    onDataBegin() {},
    onData: (bytes) => data.push(Buffer.from(bytes)),
    onDataEnd() {},
  });
  const socket = new Duplex({
    read() {},
    write(bytes: Buffer, _encoding, done) {
      told.take(bytes);
      done();
    },
  });
  const server = sideOf("server", socket, { events });
  server.start();
  const give = (...parts: readonly Buffer[]) => void socket.emit("data", Buffer.concat(parts));
  return { server, frames, data, give };
}

const hello = Buffer.concat([preface, frame(frameTypes.settings, 0, 0)]);
/** `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a`. */
const get = [0x82, 0x86, 0x84, 0x41, 1, 97];

describe("what ends a connection", () => {
  const both = flags.endHeaders | flags.endStream;
  const wrong: ReadonlyArray<readonly [it: string, bytes: Buffer, code: number]> = [
    ["bytes that are no HTTP/2", Buffer.from("GET / HTTP/1.1\r\n\r\n"), codes.protocolError],
    ["another frame before SETTINGS", Buffer.concat([preface, frame(6, 0, 0, Buffer.alloc(8))]), codes.protocolError],
    ["a frame that is too long", Buffer.concat([hello, frame(0, 0, 1, Buffer.alloc(16_385))]), codes.frameSizeError],
    ["DATA of no stream", Buffer.concat([hello, frame(0, 0, 0, [1])]), codes.protocolError],
    ["DATA of a stream that was never opened", Buffer.concat([hello, frame(0, 0, 1, [1])]), codes.protocolError],
    ["a stream with an even number", Buffer.concat([hello, frame(1, both, 2, get)]), codes.protocolError],
    [
      "padding longer than DATA",
      Buffer.concat([hello, frame(1, 4, 1, get), frame(0, 8, 1, [5, 1])]),
      codes.protocolError,
    ],
    ["padding longer than HEADERS", Buffer.concat([hello, frame(1, both | 8, 1, [9, 1])]), codes.protocolError],
    ["CONTINUATION of nothing", Buffer.concat([hello, frame(9, 4, 1, get)]), codes.protocolError],
    [
      "another stream inside a block",
      Buffer.concat([hello, frame(1, 1, 1, get), frame(1, both, 3, get)]),
      codes.protocolError,
    ],
    ["DATA inside a block", Buffer.concat([hello, frame(1, 0, 1, get), frame(0, 0, 1, [1])]), codes.protocolError],
    ["a block that is none", Buffer.concat([hello, frame(1, both, 1, [0x80])]), codes.compressionError],
    ["SETTINGS cut off", Buffer.concat([hello, frame(4, 0, 0, [0, 1])]), codes.frameSizeError],
    [
      "an initial window beyond 31 bits",
      Buffer.concat([hello, frame(4, 0, 0, [0, 4, 0x80, 0, 0, 0])]),
      codes.flowControlError,
    ],
    ["a frame size below the least", Buffer.concat([hello, frame(4, 0, 0, [0, 5, 0, 0, 0, 1])]), codes.protocolError],
    ["PUSH_PROMISE", Buffer.concat([hello, frame(5, 4, 1, [0, 0, 0, 2])]), codes.protocolError],
    ["a PING of seven bytes", Buffer.concat([hello, frame(6, 0, 0, Buffer.alloc(7))]), codes.frameSizeError],
    ["a window opened by nothing", Buffer.concat([hello, frame(8, 0, 0, [0, 0, 0, 0])]), codes.protocolError],
    ["a window opened too far", Buffer.concat([hello, frame(8, 0, 0, [0x7f, 255, 255, 255])]), codes.flowControlError],
    ["RST_STREAM of a stream never opened", Buffer.concat([hello, frame(3, 0, 1, [0, 0, 0, 8])]), codes.protocolError],
    [
      "DATA behind one's own RST_STREAM",
      Buffer.concat([hello, frame(1, 4, 1, get), frame(3, 0, 1, [0, 0, 0, 8]), frame(0, 0, 1, [1])]),
      codes.streamClosed,
    ],
  ];
  for (const [it, bytes, code] of wrong) {
    test(`${it}: GOAWAY ${code}`, () => {
      const { frames, give, server } = fed();
      give(bytes);
      expect(server.ended).toBe(true);
      const goaway = frames.find(({ type }) => type === frameTypes.goaway);
      expect(goaway?.payload.readUInt32BE(4)).toBe(code);
      expect(goaway?.payload.toString("utf8", 8)).toMatch(/^\w.{9,}$/);
    });
    test(`${it}, a byte at a time, is the same`, () => {
      const { frames, give } = fed();
      for (const byte of bytes) give(Buffer.of(byte));
      expect(frames.find(({ type }) => type === frameTypes.goaway)?.payload.readUInt32BE(4)).toBe(code);
    });
  }

  test("data of a stream that we reset may still be on its way; it is counted off the connection's window", () => {
    let opened: Http2Stream | undefined;
    const { server, frames, give } = fed({
      onStream: (stream) => {
        opened = stream;
      },
    });
    give(hello, frame(1, 4, 1, get));
    opened!.reset(codes.cancel);
    for (let i = 0; i < 100; i++) give(frame(0, 0, 1, Buffer.alloc(16_000)));
    server.writer.flush();
    expect(server.ended).toBe(false);
    expect(
      frames.filter(({ type, stream }) => type === frameTypes.windowUpdate && stream === 0).length,
    ).toBeGreaterThan(1);
  });

  for (const [it, window] of [
    ["go out", [0, 4, 0, 1, 0, 0]],
    ["wait for the window", [0, 4, 0, 0, 0, 0]],
  ] as const) {
    test(`bytes that ${it} are the caller's again after the call`, () => {
      let opened: Http2Stream | undefined;
      const { server, data, give } = fed({
        onStream: (stream) => {
          opened = stream;
        },
      });
      give(preface, frame(frameTypes.settings, 0, 0, window), frame(1, 5, 1, get));
      opened!.fields([":status", "200"], false);
      // What all plain sockets are read into: the next read writes over it.
      const { first: shared } = new ReadBuffers(new Duplex());
      for (const length of [3, 5000, 40_000]) {
        shared.fill(length % 256, 0, length);
        opened!.data(shared.subarray(0, length));
        shared.fill(0);
      }
      give(frame(frameTypes.windowUpdate, 0, 1, [0, 1, 0, 0]));
      opened!.end(undefined);
      server.writer.flush();
      const expected = [3, 5000, 40_000].map((length) => Buffer.alloc(length, length % 256));
      expect(Buffer.concat(data).equals(Buffer.concat(expected))).toBe(true);
    });
  }

  test("a stream's own fault ends it alone, and counts", () => {
    const counted: string[] = [];
    const ends: StreamEnd[] = [];
    const { server, frames, give } = fed({
      onCounted: (what) => counted.push(what),
      onStream: (stream) => {
        stream.handler = { onFields() {}, onData() {}, onEnd() {}, onDrain() {}, onClosed: (end) => ends.push(end) };
        stream.pause();
      },
    });
    give(hello, frame(1, 4, 1, get), frame(8, 0, 1, [0, 0, 0, 0]));
    give(frame(1, 4, 3, get));
    for (let sent = 0; sent <= 256 * 1024; sent += 16_000) give(frame(0, 0, 3, Buffer.alloc(16_000)));
    server.writer.flush();
    expect(ends).toEqual([
      { kind: "reset", code: codes.protocolError },
      { kind: "reset", code: codes.flowControlError },
    ]);
    expect(counted.filter((what) => what === "reset")).toHaveLength(2);
    expect(server.ended).toBe(false);
    expect(frames.filter(({ type }) => type === frameTypes.reset).map(({ stream }) => stream)).toEqual([1, 3]);
  });
});
