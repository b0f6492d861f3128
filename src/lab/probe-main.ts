// One readiness probe, run inside a pod: `probe-main.js http URL MS` or `probe-main.js tcp PORT MS`. Exit code 0 or 1.
import { connect } from "node:net";

const [kind, target = "", milliseconds = "1000"] = process.argv.slice(2);

function fail(why: string): never {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}

if (kind === "http") {
  try {
    // As a kubelet: any status from 200 to 399 is good, and a redirect is not followed.
    const signal = AbortSignal.timeout(Number(milliseconds));
    const { status } = await fetch(target, { redirect: "manual", signal });
    if (status < 200 || status > 399) fail(`status ${status}`);
  } catch (caught) {
    fail((caught as Error).message);
  }
} else {
  const socket = connect({ host: "127.0.0.1", port: Number(target), timeout: Number(milliseconds) });
  socket.once("connect", () => process.exit(0));
  socket.once("timeout", () => fail(`no connection in ${milliseconds} ms`));
  socket.once("error", (error) => fail(error.message));
}
if (kind === "http") process.exit(0);
