// A call for machines without curl: `get-main.js [-I] http://HOST:PORT/PATH`, through HTTP_PROXY where that is set.
import { request } from "node:http";
import { explain } from "../base/index.ts";

const headOnly = process.argv.includes("-I");
const target = new URL(process.argv.at(-1)!);
const proxy = process.env["http_proxy"] ?? process.env["HTTP_PROXY"];
const via = proxy ? new URL(proxy) : target;
const call = request(
  {
    host: via.hostname,
    port: via.port || 80,
    path: proxy ? target.href : `${target.pathname}${target.search}`,
    method: headOnly ? "HEAD" : "GET",
    headers: { host: target.host, accept: "*/*", "user-agent": "isthmus-lab" },
    timeout: 10_000,
  },
  (response) => {
    if (headOnly) {
      const lines = response.rawHeaders.flatMap((name, at, all) => (at % 2 === 0 ? [`${name}: ${all[at + 1]}`] : []));
      process.stdout.write(`HTTP/1.1 ${response.statusCode} ${response.statusMessage}\r\n${lines.join("\r\n")}\r\n`);
    }
    response.pipe(process.stdout);
  },
);
call.on("timeout", () => call.destroy(new Error("no answer within 10 s")));
call.on("error", (error) => {
  process.stderr.write(`${explain(error)}\n`);
  process.exitCode = 1;
});
call.end();
