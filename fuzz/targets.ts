import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { Failure } from "../src/base/index.ts";
import { decodeCertificate, decodeCertificates } from "../src/ca/certificate.ts";
import { decodeCsr, encodeCsr } from "../src/ca/csr.ts";
import { derSizeLimit } from "../src/ca/der.ts";
import { createTokenVerifier, decodeTokenKeys, jwksOf, makeTokenKey, mintToken } from "../src/ca/tokens.ts";
import { decodeTrustBundle } from "../src/ca/trust.ts";
import { lifetimeOf } from "../src/dns/cache.ts";
import { readQuery } from "../src/dns/packet.ts";
import { RouteConfigurationSchema } from "../src/proto/gen/envoy/config/route/v3/route_pb.js";
import { readCluster } from "../src/proxy/config/cluster.ts";
import { readEndpoints } from "../src/proxy/config/endpoints.ts";
import { readListener } from "../src/proxy/config/listener.ts";
import { readBytes } from "../src/proxy/config/reading.ts";
import { readRouteConfiguration } from "../src/proxy/config/route-table.ts";
import { readSecret } from "../src/proxy/config/secret.ts";
import { readOpening, readSocksRequest } from "../src/proxy/l4/explicit.ts";
import { readProxyHeader } from "../src/proxy/l4/proxy-header.ts";
import { classify } from "../src/proxy/l4/sniff.ts";
import { ChunkedReader } from "../src/proxy/l7/chunked.ts";
import { endOfHead, parseRequestHead, parseResponseHead, parseTrailers } from "../src/proxy/l7/head.ts";
import { Http2Connection } from "../src/proxy/l7/http2/connection.ts";
import { ConnectionError, preface } from "../src/proxy/l7/http2/frames.ts";
import { HpackDecoder } from "../src/proxy/l7/http2/hpack-decoder.ts";
import { readRequest } from "../src/proxy/l7/http2-headers.ts";
import { Refusal } from "../src/proxy/l7/message.ts";
import { normalPath } from "../src/proxy/l7/path.ts";
import { readClientHello } from "../src/proxy/tls/client-hello.ts";
import { readResources } from "../src/resources/index.ts";
import { parseHostname, parseIp, parseSniName, parseSpiffeId } from "../src/values/index.ts";
import type { Target } from "./fuzz.ts";
import { keyAndCertificate, messages } from "./seeds.ts";

const text = (...all: readonly string[]) => all.map((one) => Buffer.from(one, "latin1"));
const hex = (...all: readonly string[]) => all.map((one) => Buffer.from(one, "hex"));

/** Runs what may say no only by throwing one kind of error. */
function only<E extends Error>(kind: new (...given: never[]) => E, run: () => void): void {
  try {
    run();
  } catch (caught) {
    if (!(caught instanceof kind)) throw caught;
  }
}

const heads = text(
  "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
  "POST /a/../b?c=d HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nConnection: close, x\r\nX: y\r\n\r\nhello",
  "PUT http://a.b/x HTTP/1.1\r\nhost: a.b\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nUpgrade: websocket\r\n\r\n",
  "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nExpect: 100-continue\r\n\r\n",
);

function head(bytes: Buffer, parse: (text: string) => unknown): void {
  only(Refusal, () => {
    const end = endOfHead(bytes, 0, 0, 60 * 1024);
    if (end >= 0) parse(bytes.toString("latin1", 0, end + 2));
  });
}

const signer = makeTokenKey("k1");
const nowMs = Date.UTC(2030, 0, 1);
const verifier = createTokenVerifier({
  keys: decodeTokenKeys(jwksOf([signer])),
  clock: { now: () => nowMs, monotonic: () => 0, after: () => ({ cancel() {} }) },
});
const token = await mintToken(signer, { namespace: "foo", serviceAccount: "sleep", ttlMs: 600_000, nowMs });

const made = keyAndCertificate();
export const targets: readonly Target[] = [
  {
    name: "client-hello",
    seeds: made.hellos,
    run: (bytes) => {
      const outcome = readClientHello(bytes);
      if (outcome.kind === "hello" && outcome.hello.sni !== undefined && !/^[a-z0-9_.*-]+$/.test(outcome.hello.sni))
        throw new Error(`a server name that is none: ${JSON.stringify(outcome.hello.sni)}`);
      if (outcome.kind === "more" && outcome.need <= bytes.length) throw new Error("wants no more than there is");
    },
  },
  {
    name: "sniff",
    seeds: [...heads, ...made.hellos, ...text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-x\r\n")],
    run: (bytes) => void classify(bytes, { tls: true, http: true }),
  },
  {
    name: "http1-request",
    seeds: heads,
    run: (bytes) =>
      head(bytes, (raw) => {
        const request = parseRequestHead(raw);
        const written = `${request.method} ${request.path} ${request.authority} ${request.headers.join(" ")}`;
        // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not come through
        if (/[\x00-\x08\x0a-\x1f\x7f]/.test(written))
          throw new Error(`control characters came through: ${JSON.stringify(written)}`);
        if (request.chunked && request.contentLength >= 0) throw new Error("framed in two ways");
      }),
  },
  {
    name: "http1-response",
    seeds: text(
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
      "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
      "HTTP/1.0 404\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    run: (bytes) => head(bytes, parseResponseHead),
  },
  { name: "trailers", seeds: text("x: y\r\na: b\r\n\r\n"), run: (bytes) => head(bytes, parseTrailers) },
  {
    name: "chunked",
    seeds: text("5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n"),
    run: (bytes) => {
      // The same bytes in one piece and byte by byte mean the same.
      const read = (size: number) => {
        const reader = new ChunkedReader();
        let body = "";
        let refused = false;
        try {
          for (let at = 0; at < bytes.length && !reader.done; at += size) {
            const piece = bytes.subarray(at, at + size);
            reader.read(piece, 0, (data) => {
              body += data.toString("latin1");
            });
          }
        } catch (caught) {
          if (!(caught instanceof Refusal)) throw caught;
          refused = true;
        }
        return `${refused || reader.done} ${refused} ${body}`;
      };
      if (bytes.length < 4096 && read(bytes.length || 1) !== read(1)) throw new Error("read in two ways");
    },
  },
  {
    name: "path",
    seeds: text("/a/../b", "/%2e%2e/x?y", "/a//b;c/%2F%5c\\..", "/%e2%82%ac/."),
    run: (bytes) => {
      const target = bytes.toString("latin1").replace(/[^\x21-\x7e]/g, "");
      if (!target.startsWith("/")) return;
      only(Refusal, () => {
        const rules = { normalizePath: true, mergeSlashes: false, escapedSlashes: "keep" } as const;
        const once = normalPath(target, rules).path;
        const twice = normalPath(once, rules).path;
        if (once !== twice) throw new Error(`"${once}" is "${twice}" when it is read again`);
        if (/(^|\/)\.\.?(\/|$)/.test(once.split("?")[0]!)) throw new Error(`dots are left in "${once}"`);
      });
    },
  },
  {
    name: "proxy-header",
    seeds: [
      ...text("PROXY TCP4 10.0.0.1 10.0.0.2 1234 80\r\nGET /", "PROXY UNKNOWN\r\n", "PROXY TCP6 ::1 ::2 1 2\r\n"),
      ...hex("0d0a0d0a000d0a515549540a2111000c0a0000010a00000204d20050", "0d0a0d0a000d0a515549540a20000000"),
    ],
    run: (bytes) => void readProxyHeader(bytes),
  },
  {
    name: "explicit",
    seeds: [
      ...text("CONNECT a.b:80 HTTP/1.1\r\nHost: a.b:80\r\n\r\n", "GET http://a/ HTTP/1.1\r\n"),
      ...hex("050100", "05010003036162630050", "050100010a0000010050"),
    ],
    run: (bytes) => {
      readOpening(bytes);
      readSocksRequest(bytes);
    },
  },
  {
    name: "dns",
    seeds: hex(
      "00010100000100000000000007687474707962696e0362617206676c6f62616c0000010001",
      "abcd012000010000000000010161000001000100002904d0000000000000",
      "0001818000010001000000000161016200000100010000000c000100010000003c00040a000001".replace("0000000c", "c00c"),
    ),
    run: (bytes) => {
      readQuery(bytes);
      // Replies reach this reader only when their question is the one that was asked: 23 bytes here.
      if (bytes.length >= 23) lifetimeOf(bytes, 23);
    },
  },
  {
    name: "yaml",
    seeds: ["guide-section-3", "guide-section-3-cluster2", "routes", "protocols"].map((name) =>
      readFileSync(join(process.cwd(), `src/xds/testdata/${name}/in.yaml`)),
    ),
    run: (bytes) => {
      const { violations } = readResources(bytes.toString("utf8"), { cluster: "c", file: "x.yaml" });
      for (const { line, message } of violations) {
        if (!(line >= 1)) throw new Error(`a violation without a line: ${message}`);
        if (/[\n\r]/.test(message)) throw new Error(`a violation of two lines: ${JSON.stringify(message)}`);
      }
      if (Object.keys(Object.prototype).length > 0) throw new Error("the prototype of all objects has grown");
    },
  },
  { name: "xds-cluster", seeds: messages("cluster"), run: (bytes) => void readCluster(bytes) },
  { name: "xds-endpoints", seeds: messages("endpoints"), run: (bytes) => void readEndpoints(bytes) },
  { name: "xds-listener", seeds: messages("listener"), run: (bytes) => void readListener(bytes) },
  {
    name: "xds-route",
    seeds: messages("route"),
    run: (bytes) => void readBytes(RouteConfigurationSchema, bytes, readRouteConfiguration),
  },
  {
    name: "xds-secret",
    seeds: [...text("\n\x07default"), Buffer.from([10, 1, 97, 18, 0])],
    run: (bytes) => void readSecret(bytes),
  },
  {
    name: "csr",
    seeds: [Buffer.from(encodeCsr(made.key))],
    run: (bytes) => only(Failure, () => decodeCsr(bytes.toString("latin1"))),
  },
  {
    name: "certificate",
    seeds: made.certificates,
    run: (bytes) => {
      only(Failure, () => decodeCertificate(bytes.subarray(0, derSizeLimit)));
      const pem = `-----BEGIN CERTIFICATE-----\n${bytes.toString("base64")}\n-----END CERTIFICATE-----\n`;
      only(Failure, () => decodeCertificates(pem));
      only(Failure, () => decodeTrustBundle(pem));
    },
  },
  {
    name: "token",
    seeds: text(token, "a.b.c", "eyJhbGciOiJub25lIn0.e30."),
    run: async (bytes) => {
      const given = bytes.toString("latin1");
      const verdict = await verifier.verify(given);
      // The last letter of a signature has bits that mean nothing; what is signed must be what was signed.
      const signed = (one: string) => one.split(".", 2).join(".");
      if (verdict.ok && signed(given) !== signed(token))
        throw new Error("another token than the one that was made is believed");
    },
  },
  {
    name: "hpack",
    seeds: hex(
      "828684418cf1e3c2e5f23a6ba0ab90f4ff",
      "828684be5886a8eb10649cbf",
      "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
      "3fe101488264025885aec3771a4b",
      "000378797a036162637f8001ff00",
    ),
    run: (bytes) =>
      only(ConnectionError, () => {
        const decoder = new HpackDecoder();
        // One after the other, as on a connection: what the first left in the table is used by the second.
        for (const part of [bytes.subarray(0, bytes.length / 2), bytes.subarray(bytes.length / 2), bytes]) {
          const block = decoder.decode(part, { bytes: 4096, fields: 20 });
          if (block.kind !== "fields") continue;
          if (block.fields.length > 40) throw new Error("more fields than are accepted");
          only(Refusal, () => {
            const { headers, authority, path, method } = readRequest(block.fields, true);
            if (/[\0\r\n]/.test(`${headers.join("")}${authority}${path}${method}`))
              throw new Error("a line end in what would be written as HTTP/1");
          });
        }
      }),
  },
  {
    name: "http2",
    seeds: [
      ...hex(
        "000000040000000000",
        "000006040000000000000400000001",
        "00000601050000000182868441016100000800010000000168656c6c6f",
        "000006010400000001828684410161000005000100000001abcdefabcd00000403000000000100000008",
        "0000060100000000018286844101610000020904000000010001",
        "00000806000000000000000000000000000000040800000000000000ffff",
        "0000080700000000000000000100000000",
      ),
    ],
    run: (bytes) => {
      const written: number[] = [];
      const socket = new Duplex({
        read() {},
        write(chunk: Buffer, _encoding, done) {
          written.push(chunk.length);
          done();
        },
      });
      const server = new Http2Connection({
        side: "server",
        socket,
        maxStreams: 10,
        windows: { stream: 65_535, connection: 65_535 },
        head: { bytes: 4096, fields: 20 },
        events: {
          onStream(stream) {
            stream.handler = {
              onFields() {},
              onData() {},
              onEnd: () => stream.end(undefined),
              onDrain() {},
              onClosed() {},
            };
            stream.fields([":status", "200"], false);
            stream.data(Buffer.alloc(100));
          },
          onSettings() {},
          onPong() {},
          onGoaway() {},
          onCounted() {},
          onStreamClosed() {},
          onEnded() {},
        },
      });
      server.start();
      socket.emit("data", preface);
      socket.emit("data", Buffer.from("000000040000000000", "hex"));
      socket.emit("data", bytes);
      server.writer.flush();
      if (written.reduce((sum, length) => sum + length, 0) > 1000 + bytes.length * 30)
        throw new Error("few bytes make it say very many");
      server.destroy();
    },
  },
  {
    name: "names",
    seeds: text(
      "httpbin.bar.global",
      "*.global",
      "spiffe://cluster.local/ns/foo/sa/sleep",
      "10.0.0.1",
      "::ffff:1.2.3.4",
      "outbound_.8000_.v1_.a.b",
    ),
    run: (bytes) => {
      const given = bytes.toString("latin1");
      const name = parseHostname(given);
      if (name !== undefined && !/^[a-z0-9_*.-]+$/.test(name))
        throw new Error(`a name that is none: ${JSON.stringify(name)}`);
      const id = parseSpiffeId(given);
      if (id !== undefined && /\/\.{0,2}(\/|$)|[^\x21-\x7e]/.test(id.slice("spiffe://".length)))
        throw new Error(`an identity that is none: ${JSON.stringify(id)}`);
      parseIp(given);
      parseSniName(given);
    },
  },
];
