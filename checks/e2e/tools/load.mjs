// Requests at a fixed number of connections: node load.mjs URL --connections N --requests N [--stop-file FILE]
// Goes on past --requests until FILE exists. Prints one JSON line: how many, which failed and how, who answered.
import { existsSync } from "node:fs";
import { Agent, request } from "node:http";

const [url, ...rest] = process.argv.slice(2);
const option = (name, fallback) => {
  const at = rest.indexOf(`--${name}`);
  return at < 0 ? fallback : rest[at + 1];
};
const connections = Number(option("connections", "64"));
const wanted = Number(option("requests", "1000"));
const stopFile = option("stop-file");
const longest = Number(option("seconds", "240")) * 1000;

const agent = new Agent({ keepAlive: true, maxSockets: connections });
const started = performance.now();
let begun = 0;
let done = 0;
let mayStop = stopFile === undefined;
const failures = [];
const statuses = {};
const latencies = [];

const again = () => performance.now() - started < longest && (begun < wanted || !mayStop);
const look = stopFile ? setInterval(() => (mayStop ||= existsSync(stopFile)), 100) : undefined;

function one() {
  return new Promise((resolve) => {
    const at = performance.now();
    begun++;
    const end = (problem) => {
      done++;
      latencies.push(performance.now() - at);
      if (problem && failures.length < 20) failures.push({ at: Math.round(performance.now() - started), problem });
      else if (problem) failures.push(undefined);
      resolve();
    };
    const outgoing = request(url, { agent, headers: { "x-load": String(begun) } }, (response) => {
      statuses[response.statusCode] = (statuses[response.statusCode] ?? 0) + 1;
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text) => {
        if (response.statusCode !== 200 && body.length < 500) body += text;
      });
      response.on("end", () => end(response.statusCode === 200 ? undefined : `${response.statusCode} ${body}`));
      response.on("error", (error) => end(`response: ${error.message}`));
    });
    outgoing.on("error", (error) => end(`request: ${error.message}`));
    outgoing.end();
  });
}

await Promise.all(
  Array.from({ length: connections }, async () => {
    while (again()) await one();
  }),
);
clearInterval(look);
agent.destroy();
latencies.sort((a, b) => a - b);
const at = (share) => Math.round((latencies[Math.floor(latencies.length * share)] ?? 0) * 10) / 10;
const seconds = (performance.now() - started) / 1000;
console.log(
  JSON.stringify({
    requests: done,
    failed: failures.length,
    failures: failures.filter(Boolean),
    statuses,
    seconds: Math.round(seconds * 10) / 10,
    perSecond: Math.round(done / seconds),
    p50: at(0.5),
    p99: at(0.99),
  }),
);
