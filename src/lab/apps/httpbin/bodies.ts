import { once } from "node:events";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { headersOf, originOf } from "./echo.ts";
import { bounded, type Call, type Route, sendJson, sendText } from "./route.ts";

/** The longest body that is made on request. */
const longestBody = 2 ** 40;

export const bodyRoutes: readonly Route[] = [
  {
    methods: ["GET"],
    path: "/bytes/:n",
    async run(call) {
      const total = Math.floor(bounded(call.params["n"], [0, longestBody], 0));
      call.response.writeHead(200, { "Content-Type": "application/octet-stream", "Content-Length": String(total) });
      await sendBytes(call, total, 65536);
    },
  },
  {
    methods: ["GET"],
    path: "/stream-bytes/:n",
    async run(call) {
      const total = Math.floor(bounded(call.params["n"], [0, longestBody], 0));
      call.response.writeHead(200, { "Content-Type": "application/octet-stream" });
      await sendBytes(call, total, Math.floor(bounded(call.query.get("chunk_size"), [1, 1 << 20], 10240)));
    },
  },
  { methods: ["GET"], path: "/range/:n", run: range },
  { methods: ["GET"], path: "/stream/:n", run: streamLines },
  { methods: ["GET"], path: "/drip", run: drip },
  {
    methods: ["GET"],
    path: "/trailers",
    run({ response }) {
      response.writeHead(200, { "Content-Type": "text/plain", Trailer: "x-checksum, x-done" });
      response.write("the trailers follow\n");
      response.addTrailers({ "x-checksum": "20", "x-done": "yes" });
      response.end();
    },
  },
  { methods: ["GET"], path: "/gzip", run: (call) => sendCoded(call, "gzip", "gzipped", gzipSync) },
  { methods: ["GET"], path: "/deflate", run: (call) => sendCoded(call, "deflate", "deflated", deflateSync) },
  { methods: ["GET"], path: "/brotli", run: (call) => sendCoded(call, "br", "brotli", brotliCompressSync) },
  { methods: ["GET"], path: "/encoding/utf8", run: (call) => sendText(call, utf8Page, "text/html; charset=utf-8") },
  { methods: ["GET"], path: "/html", run: (call) => sendText(call, htmlPage, "text/html; charset=utf-8") },
  { methods: ["GET"], path: "/xml", run: (call) => sendText(call, xmlPage, "application/xml") },
  { methods: ["GET"], path: "/json", run: (call) => sendJson(call, slideshow) },
  {
    methods: ["GET"],
    path: "/base64/:value",
    run: (call) => sendText(call, Buffer.from(call.params["value"] ?? "", "base64url").toString("utf8")),
  },
  {
    methods: ["GET"],
    path: "/links/:n/:offset",
    run(call) {
      const n = bounded(call.params["n"], [1, 200], 1);
      const offset = bounded(call.params["offset"], [0, n - 1], 0);
      const links = Array.from({ length: n }, (_, i) =>
        i === offset ? `${i}` : `<a href='/links/${n}/${i}'>${i}</a>`,
      );
      sendText(call, `<html><head><title>Links</title></head><body>${links.join(" ")}</body></html>`, "text/html");
    },
  },
];

/** The same bytes for the same seed, so that a test can say what it expects. */
function block(seed: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = (seed | 0) === 0 ? 0x9e3779b9 : seed | 0;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state & 255;
  }
  return bytes;
}

/** One block over and over, no faster than it is taken. */
async function sendBytes({ request, response, query }: Call, total: number, chunkSize: number): Promise<void> {
  if (request.method === "HEAD") {
    response.end();
    return;
  }
  const seed = query.get("seed");
  const bytes = block(seed === null ? (Math.random() * 2 ** 31) | 0 : Number(seed), Math.min(total, chunkSize));
  for (let left = total; left > 0 && !response.destroyed; left -= chunkSize) {
    if (!response.write(left < bytes.length ? bytes.subarray(0, left) : bytes)) await drained(response);
  }
  response.end();
}

/** Resolves when more may be written, or nobody listens any more. */
async function drained(response: Call["response"]): Promise<void> {
  if (response.destroyed) return;
  const over = new AbortController();
  const closed = () => over.abort();
  response.once("close", closed);
  try {
    await once(response, "drain", { signal: over.signal });
  } catch (error) {
    if (!over.signal.aborted) throw error;
  } finally {
    response.off("close", closed);
  }
}

/** Letters in a row, with byte ranges (RFC 9110 §14). */
function range(call: Call): void {
  const total = Math.floor(bounded(call.params["n"], [0, 102400], 0));
  const text = Array.from({ length: total }, (_, i) => String.fromCharCode(97 + (i % 26))).join("");
  const asked = /^bytes=(\d*)-(\d*)$/.exec(call.request.headers.range ?? "");
  call.response.setHeader("ETag", `"range${total}"`);
  call.response.setHeader("Accept-Ranges", "bytes");
  if (!asked || (!asked[1] && !asked[2])) {
    sendText(call, text, "application/octet-stream");
    return;
  }
  const from = asked[1] ? Number(asked[1]) : Math.max(0, total - Number(asked[2]));
  const to = asked[1] && asked[2] ? Math.min(Number(asked[2]), total - 1) : total - 1;
  if (from > to) {
    call.response.setHeader("Content-Range", `bytes */${total}`);
    sendText(call, "", "text/plain", 416);
    return;
  }
  call.response.setHeader("Content-Range", `bytes ${from}-${to}/${total}`);
  sendText(call, text.slice(from, to + 1), "application/octet-stream", 206);
}

async function streamLines(call: Call): Promise<void> {
  const count = Math.floor(bounded(call.params["n"], [0, 100], 0));
  const { request, response, query } = call;
  const common = {
    url: `http://${request.headers.host ?? "localhost"}${request.url}`,
    args: Object.fromEntries(query),
    headers: headersOf(request),
    origin: originOf(request),
  };
  response.writeHead(200, { "Content-Type": "application/json" });
  for (let id = 0; id < count && !response.destroyed; id++) {
    if (!response.write(`${JSON.stringify({ ...common, id })}\n`)) await drained(response);
  }
  response.end();
}

/** `numbytes` stars spread over `duration` seconds, after `delay` seconds. */
async function drip(call: Call): Promise<void> {
  const { response, query } = call;
  const total = Math.floor(bounded(query.get("numbytes"), [0, 10 << 20], 10));
  const durationMs = bounded(query.get("duration"), [0, 60], 2) * 1000;
  const delayMs = bounded(query.get("delay"), [0, 60], 0) * 1000;
  await pause(delayMs);
  response.writeHead(Math.floor(bounded(query.get("code"), [200, 599], 200)), {
    "Content-Type": "application/octet-stream",
    "Content-Length": String(total),
  });
  response.flushHeaders();
  const steps = Math.min(total, Math.max(1, Math.floor(durationMs / 10)), 1000);
  for (let step = 0; step < steps && !response.destroyed; step++) {
    const size = Math.floor(((step + 1) * total) / steps) - Math.floor((step * total) / steps);
    response.write("*".repeat(size));
    await pause(durationMs / steps);
  }
  response.end();
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function sendCoded(call: Call, encoding: string, flag: string, code: (text: string) => Buffer): void {
  const { request, response } = call;
  const value = { [flag]: true, headers: headersOf(request), method: request.method, origin: originOf(request) };
  const bytes = code(`${JSON.stringify(value, undefined, 2)}\n`);
  response.writeHead(200, {
    "Content-Type": "application/json",
    "Content-Encoding": encoding,
    "Content-Length": String(bytes.length),
  });
  response.end(bytes);
}

const utf8Page = `<h1>Text in many scripts</h1>
<pre>
Latin    Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich
Greek    Ξεσκεπάζω την ψυχοφθόρα βδελυγμία
Cyrillic Съешь же ещё этих мягких французских булок, да выпей чаю
Hebrew   דג סקרן שט בים מאוכזב ולפתע מצא חברה
Hindi    ऋषियों को सताने वाले दुष्ट राक्षसों
Japanese いろはにほへと ちりぬるを
Symbols  ∮ E·da = Q ∑ ∞ ≠ ≤ ⊂ ⟨ψ⟩ € 🚢
</pre>
`;

const htmlPage = `<!DOCTYPE html>
<html>
  <head><title>A page</title></head>
  <body>
    <h1>Isthmus</h1>
    <p>A narrow strip of land that joins two larger ones.</p>
  </body>
</html>
`;

const xmlPage = `<?xml version='1.0' encoding='us-ascii'?>
<slideshow title="Sample Slide Show" author="Yours Truly">
  <slide type="all"><title>Two shores</title></slide>
  <slide type="all"><title>One crossing</title></slide>
</slideshow>
`;

const slideshow = {
  slideshow: {
    author: "Yours Truly",
    date: "date of publication",
    slides: [
      { title: "Two shores", type: "all" },
      { items: ["a gateway", "another gateway"], title: "One crossing", type: "all" },
    ],
    title: "Sample Slide Show",
  },
};
