// Runs inside a pod: node caller.mjs '{"identity":…,"cluster":…,"perSecond":…,"targets":[{"kind","host","port"}]}'
// Calls the targets in turn at a steady rate, whatever became of the calls before, and tells each as a line of JSON.
// Ends, when the last answers are in, as soon as its standard input does.
import { Agent, request } from "node:http";
import { connect } from "node:net";

const { identity, cluster, perSecond, targets } = JSON.parse(process.argv[2]);
// On a machine with much else to do a request takes long; one that takes this long hangs.
const longestMs = 30_000;
// More at once to one host would make a slow machine slower, and say no more.
const most = 6;
const agent = new Agent({ keepAlive: true, maxSockets: 16 });
let number = 0;
const open = new Map(targets.map((target) => [target, 0]));
let skipped = 0;
let repeated = 0;

function one() {
  const n = ++number;
  const target = targets[n % targets.length];
  const { kind, host, port } = target;
  if (open.get(target) >= most) return void skipped++;
  const marked = kind === "http" && n % 3 === 0;
  // Some take a while, so that whatever happens finds requests under way.
  const path = `/soak/${n}${n % 7 === 0 ? "?delay=250ms" : ""}`;
  const start = Date.now();
  open.set(target, open.get(target) + 1);
  let told = false;
  const tell = (outcome) => {
    if (told) return;
    told = true;
    open.set(target, open.get(target) - 1);
    const line = { caller: identity, cluster, kind, host, path, marked, start, end: Date.now(), ...outcome };
    process.stdout.write(`${JSON.stringify(line)}\n`);
  };
  if (kind === "tcp") overTcp({ host, port }, tell);
  else overHttp({ host, port, path, marked }, tell);
}

/** A connection that was kept may be gone when it is used again: then, as clients do, once more on a new one. */
function overHttp({ host, port, path, marked, again = false }, tell) {
  const headers = marked ? { "x-soak-version": "v2" } : {};
  let answered = false;
  const call = request({ host, port, path, agent: again ? false : agent, headers }, (response) => {
    answered = true;
    let body = "";
    response.setEncoding("utf8");
    response.on("data", (text) => {
      body += text;
    });
    response.on("error", (error) => tell({ status: 0, error: `answer cut off: ${error.message}` }));
    response.on("end", () => {
      clearTimeout(timer);
      const status = response.statusCode;
      if (status !== 200) return tell({ status, error: `${status} ${body.slice(0, 300)}` });
      try {
        const said = JSON.parse(body);
        const xfcc = said.headers["x-forwarded-client-cert"];
        tell({ status, answer: { cluster: said.cluster, version: said.version, pod: said.pod, path: said.path, xfcc } });
      } catch {
        tell({ status: 0, wrong: `an answer that is none: ${body.slice(0, 300)}` });
      }
    });
  });
  const timer = setTimeout(() => call.destroy(new Error(`nothing within ${longestMs} ms`)), longestMs);
  call.on("error", (error) => {
    clearTimeout(timer);
    if (call.reusedSocket && !again && ["ECONNRESET", "EPIPE"].includes(error.code) && !answered) {
      repeated++;
      overHttp({ host, port, path, marked, again: true }, tell);
    } else tell({ status: 0, error: error.message });
  });
  call.end();
}

/** Says a line; the answer says who answers, and then the line. */
function overTcp({ host, port }, tell) {
  const word = `soak ${number} ${Math.random()}\n`;
  const socket = connect({ host, port });
  let said = "";
  const timer = setTimeout(() => socket.destroy(new Error(`nothing within ${longestMs} ms`)), longestMs);
  const end = (outcome) => {
    clearTimeout(timer);
    socket.destroy();
    tell(outcome);
  };
  socket.setEncoding("utf8");
  socket.on("connect", () => socket.write(word));
  socket.on("data", (text) => {
    said += text;
    const at = said.indexOf("\n");
    if (at < 0 || said.length < at + 1 + word.length) return;
    if (said.slice(at + 1) !== word) return end({ status: 0, wrong: `another's bytes: ${said.slice(at + 1, 300)}` });
    const { cluster: where, version, pod } = JSON.parse(said.slice(0, at));
    end({ status: 200, answer: { cluster: where, version, pod } });
  });
  socket.on("error", (error) => end({ status: 0, error: error.message }));
  socket.on("close", () => end({ status: 0, error: "closed without an answer" }));
}

const timer = setInterval(one, 1000 / perSecond);
process.stdin.on("end", async () => {
  clearInterval(timer);
  while ([...open.values()].some((count) => count > 0)) await new Promise((resolve) => setTimeout(resolve, 50));
  process.stdout.write(`${JSON.stringify({ finished: true, number, skipped, repeated })}\n`);
  agent.destroy();
});
process.stdin.resume();
