import { Duplex } from "node:stream";
import { connect } from "node:tls";
import fc from "fast-check";
import { expect, test } from "vitest";
import { helloLimit, readClientHello } from "./client-hello.ts";

/** The bytes that a real client opens with. */
async function realHello(options: {
  servername?: string;
  ALPNProtocols?: string[];
  minVersion?: "TLSv1.2";
  maxVersion?: "TLSv1.2";
}): Promise<Buffer> {
  let told: (chunk: Buffer) => void = () => {};
  const first = new Promise<Buffer>((resolve) => {
    told = resolve;
  });
  const wire = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      told(chunk);
      done();
    },
  });
  const socket = connect({ socket: wire, rejectUnauthorized: false, ...options });
  socket.on("error", () => {});
  const chunk = await first;
  socket.destroy();
  return chunk;
}

const u16 = (value: number) => Buffer.from([value >> 8, value & 255]);
const sized = (bytes: Buffer) => Buffer.concat([u16(bytes.length), bytes]);
const extension = (type: number, content: Buffer) => Buffer.concat([u16(type), sized(content)]);
const serverName = (name: string | Buffer) =>
  extension(0, sized(Buffer.concat([Buffer.from([0]), sized(Buffer.from(name as string, "latin1"))])));
const alpn = (...names: string[]) =>
  extension(
    16,
    sized(Buffer.concat(names.map((name) => Buffer.concat([Buffer.from([name.length]), Buffer.from(name)])))),
  );

function message(extensions: readonly Buffer[], options: { version?: number } = {}): Buffer {
  const body = Buffer.concat([
    u16(options.version ?? 0x0303),
    Buffer.alloc(32, 7),
    Buffer.from([0]),
    sized(Buffer.from([0x13, 0x01])),
    Buffer.from([1, 0]),
    sized(Buffer.concat(extensions)),
  ]);
  return Buffer.concat([Buffer.from([1, body.length >> 16, (body.length >> 8) & 255, body.length & 255]), body]);
}

function records(handshake: Buffer, size = 16384): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < handshake.length; at += size) {
    const part = handshake.subarray(at, at + size);
    parts.push(Buffer.from([22, 3, 1]), sized(part));
  }
  return Buffer.concat(parts);
}

const versions13 = extension(43, Buffer.from([4, 0x1a, 0x1a, 3, 4]));
const outcome = (bytes: Buffer) => {
  const read = readClientHello(bytes);
  return read.kind === "hello" ? read.hello : read.kind === "refused" ? read.reason : read.kind;
};

test("a real client's hello gives its server name and protocols", async () => {
  const hello = await realHello({
    servername: "outbound_.8000_._.httpbin.bar.global",
    ALPNProtocols: ["istio-http/1.1", "istio"],
  });
  expect(outcome(hello)).toEqual({
    sni: "outbound_.8000_._.httpbin.bar.global",
    alpn: ["istio-http/1.1", "istio"],
    version: 0x0304,
  });
});

test("every prefix of a hello asks for more, and for no more than there will be", async () => {
  const hello = await realHello({ servername: "a.example" });
  for (let length = 0; length < hello.length; length++) {
    const read = readClientHello(hello.subarray(0, length));
    expect(read.kind).toBe("more");
    if (read.kind === "more") expect(read.need).toBeGreaterThan(length);
  }
});

test("a hello may come in records of any size", async () => {
  const whole = await realHello({ servername: "a.example", ALPNProtocols: ["h2"] });
  const handshake = whole.subarray(5);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: handshake.length }), (size) => {
      expect(readClientHello(records(handshake, size))).toEqual(readClientHello(whole));
    }),
    { numRuns: 60 },
  );
});

const pq = extension(51, Buffer.alloc(1800, 3));
const grease = extension(0x2a2a, Buffer.alloc(1));
const rows: ReadonlyArray<readonly [string, Buffer, unknown]> = [
  [
    "a post-quantum hello in two segments",
    records(message([grease, pq, serverName("a.b"), versions13])),
    { sni: "a.b", alpn: [], version: 0x0304 },
  ],
  [
    "an upper-case name is lower case",
    records(message([serverName("A.Example")])),
    { sni: "a.example", alpn: [], version: 0x0303 },
  ],
  [
    "a trailing dot is dropped",
    records(message([serverName("a.example.")])),
    { sni: "a.example", alpn: [], version: 0x0303 },
  ],
  [
    "no server name",
    records(message([alpn("h2", "http/1.1")])),
    { sni: undefined, alpn: ["h2", "http/1.1"], version: 0x0303 },
  ],
  ["no extensions at all", records(message([])), { sni: undefined, alpn: [], version: 0x0303 }],
  ["TLS 1.0 only", records(message([serverName("a.b")], { version: 0x0301 })), "too-old"],
  ["a name with a NUL", records(message([serverName("a.b\0.c")])), "bad-server-name"],
  ["a name with CR LF and escape", records(message([serverName("a\r\n\x1b[2J")])), "bad-server-name"],
  ["an empty name", records(message([serverName("")])), "malformed"],
  ["two server names", records(message([serverName("a.b"), serverName("c.d")])), "malformed"],
  [
    "a name that reaches past its extension",
    records(message([extension(0, Buffer.from([0, 5, 0, 0, 9, 97, 98]))])),
    "malformed",
  ],
  ["an empty protocol", records(message([alpn("")])), "malformed"],
  ["a handshake of another kind", records(Buffer.from([2, 0, 0, 2, 3, 3])), "malformed"],
  ["an empty record", Buffer.from([22, 3, 1, 0, 0]), "malformed"],
  ["a record above its size", Buffer.from([22, 3, 1, 0xff, 0xff]), "malformed"],
  ["a hello above the limit", Buffer.from([22, 3, 1, 0x40, 0, 1, 0, 0x80, 0]), "too-large"],
  ["an SSLv2 hello", Buffer.from([0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10]), "sslv2"],
  ["HTTP", Buffer.from("GET / HTTP/1.1\r\n"), "not-tls"],
  ["an alert", Buffer.from([21, 3, 1, 0, 2, 2, 40]), "not-tls"],
];
for (const [name, bytes, wanted] of rows) test(name, () => expect(outcome(bytes)).toEqual(wanted));

test("tiny records cannot be sent for ever", () => {
  const handshake = Buffer.concat([Buffer.from([1, 0, 0x3f, 0xff]), Buffer.alloc(7000)]);
  expect(readClientHello(records(handshake, 1)).kind).toBe("refused");
});

test("garbage has an outcome and nothing is thrown", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      expect(["hello", "more", "not-tls", "refused"]).toContain(readClientHello(Buffer.from(bytes)).kind);
    }),
    { numRuns: 500 },
  );
  const start = [22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3];
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 250, maxLength: 250 }), (rest) => {
      expect(["hello", "more", "refused"]).toContain(readClientHello(Buffer.from([...start, ...rest])).kind);
    }),
    { numRuns: 1000 },
  );
  expect(helloLimit).toBeGreaterThan(4096);
});

test("a changed byte of a real hello is survived", async () => {
  const hello = await realHello({ servername: "a.example", ALPNProtocols: ["h2"] });
  fc.assert(
    fc.property(fc.nat(hello.length - 1), fc.integer({ min: 0, max: 255 }), (at, value) => {
      const changed = Buffer.from(hello);
      changed[at] = value;
      const read = readClientHello(changed);
      if (read.kind === "hello" && read.hello.sni !== undefined) expect(read.hello.sni).toMatch(/^[a-z0-9_.*-]+$/);
    }),
    { numRuns: 500 },
  );
});
