import { headersOf, listsOf, originOf } from "./echo.ts";
import { bounded, type Call, type Route, sendJson, sendText } from "./route.ts";

const anyMethod = ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"];

export const statusRoutes: readonly Route[] = [
  { methods: anyMethod, path: "/status/:codes", run: status },
  {
    methods: ["GET", "POST"],
    path: "/response-headers",
    run(call) {
      const entries = Object.entries(listsOf(call.query));
      for (const [name, value] of entries) {
        // A name or value that no header can have is left out of the head, and is still in the body.
        try {
          call.response.setHeader(name, value);
        } catch {}
      }
      const type = call.response.getHeader("content-type") ?? "application/json";
      const text = `${JSON.stringify(Object.fromEntries([["Content-Type", type], ...entries]), undefined, 2)}\n`;
      call.response.writeHead(200, { "Content-Type": type, "Content-Length": String(Buffer.byteLength(text)) });
      call.response.end(text);
    },
  },
  { methods: ["GET"], path: "/redirect/:n", run: (call) => redirectDown(call, "/relative-redirect", false) },
  { methods: ["GET"], path: "/relative-redirect/:n", run: (call) => redirectDown(call, "/relative-redirect", false) },
  { methods: ["GET"], path: "/absolute-redirect/:n", run: (call) => redirectDown(call, "/absolute-redirect", true) },
  {
    methods: anyMethod,
    path: "/redirect-to",
    run(call) {
      const code = bounded(call.query.get("status_code"), [300, 399], 302);
      redirect(call, call.query.get("url") ?? "/get", code);
    },
  },
  {
    methods: ["GET"],
    path: "/cache",
    run(call) {
      const { headers } = call.request;
      if (headers["if-modified-since"] || headers["if-none-match"]) {
        call.response.writeHead(304).end();
        return;
      }
      call.response.setHeader("Last-Modified", new Date().toUTCString());
      call.response.setHeader("ETag", `"${Date.now().toString(16)}"`);
      sendGet(call);
    },
  },
  {
    methods: ["GET"],
    path: "/cache/:seconds",
    run(call) {
      call.response.setHeader("Cache-Control", `public, max-age=${bounded(call.params["seconds"], [0, 31536000], 0)}`);
      sendGet(call);
    },
  },
  { methods: ["GET"], path: "/etag/:etag", run: etag },
  { methods: ["GET"], path: "/cookies", run: (call) => sendJson(call, { cookies: cookiesOf(call) }) },
  {
    methods: ["GET"],
    path: "/cookies/set",
    run(call) {
      setCookies(
        call,
        [...call.query].map(([name, value]) => `${name}=${value}; Path=/`),
      );
    },
  },
  {
    methods: ["GET"],
    path: "/cookies/set/:name/:value",
    run: (call) => setCookies(call, [`${call.params["name"]}=${call.params["value"]}; Path=/`]),
  },
  {
    methods: ["GET"],
    path: "/cookies/delete",
    run(call) {
      setCookies(
        call,
        [...call.query.keys()].map((name) => `${name}=; Max-Age=0; Path=/`),
      );
    },
  },
  {
    methods: ["GET"],
    path: "/deny",
    run: (call) => sendText(call, "this page is not for robots\n"),
  },
  {
    methods: ["GET"],
    path: "/robots.txt",
    run: (call) => sendText(call, "User-agent: *\nDisallow: /deny\n", "text/plain"),
  },
];

/** One code, or several with weights: `/status/200:0.9,503:0.1`. */
function status(call: Call): void {
  const choices = (call.params["codes"] ?? "").split(",").map((part) => {
    const [code, weight] = part.split(":");
    return { code: Number(code), weight: weight === undefined ? 1 : Number(weight) };
  });
  const wrong = choices.some(
    ({ code, weight }) => !Number.isInteger(code) || code < 200 || code > 599 || !(weight >= 0),
  );
  if (wrong) {
    sendText(call, "Invalid status code\n", "text/plain", 400);
    return;
  }
  let left = Math.random() * choices.reduce((sum, { weight }) => sum + weight, 0);
  const chosen = choices.find(({ weight }) => {
    left -= weight;
    return left < 0;
  });
  const code = (chosen ?? choices[0]!).code;
  if (code >= 301 && code <= 307 && code !== 304) call.response.setHeader("Location", "/redirect/1");
  if (code === 401) call.response.setHeader("WWW-Authenticate", 'Basic realm="Fake Realm"');
  const empty = code === 204 || code === 304;
  call.response.writeHead(code, empty ? {} : { "Content-Length": "0" }).end();
}

function redirectDown(call: Call, base: string, absolute: boolean): void {
  const n = bounded(call.params["n"], [1, 100], 1);
  const path = n <= 1 ? "/get" : `${base}/${Math.floor(n) - 1}`;
  redirect(call, absolute ? `http://${call.request.headers.host ?? "localhost"}${path}` : path, 302);
}

function redirect(call: Call, to: string, code: number): void {
  // What no header can carry is escaped, which also keeps a new line out of the head.
  const location = to.replace(/[^\x21-\x7e]/g, (char) => encodeURIComponent(char));
  call.response.writeHead(code, { Location: location, "Content-Length": "0" }).end();
}

function etag(call: Call): void {
  const tag = call.params["etag"] ?? "";
  const listed = (name: "if-match" | "if-none-match") =>
    call.request.headers[name]?.split(",").map((part) => part.trim().replace(/^(W\/)?"?|"$/g, ""));
  const matches = (tags: readonly string[]) => tags.includes(tag) || tags.includes("*");
  call.response.setHeader("ETag", `"${tag.replace(/[^\x21\x23-\x7e]/g, "")}"`);
  const noneMatch = listed("if-none-match");
  const match = listed("if-match");
  if (noneMatch && matches(noneMatch)) call.response.writeHead(304).end();
  else if (match && !matches(match)) call.response.writeHead(412, { "Content-Length": "0" }).end();
  else sendGet(call);
}

function sendGet(call: Call): void {
  sendJson(call, {
    args: listsOf(call.query),
    headers: headersOf(call.request),
    origin: originOf(call.request),
    url: `http://${call.request.headers.host ?? "localhost"}${call.request.url}`,
  });
}

function cookiesOf(call: Call): Record<string, string> {
  const pairs = (call.request.headers.cookie ?? "").split(";").map((part) => part.trim());
  return Object.fromEntries(
    pairs.filter(Boolean).map((pair): [string, string] => {
      const at = pair.indexOf("=");
      return at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

function setCookies(call: Call, cookies: readonly string[]): void {
  call.response.setHeader(
    "Set-Cookie",
    cookies.map((cookie) => cookie.replace(/[^\x20-\x7e]/g, (char) => encodeURIComponent(char))),
  );
  redirect(call, "/cookies", 302);
}
