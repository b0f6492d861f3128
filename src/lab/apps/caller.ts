// A client that makes calls as it is told: a line of JSON in on standard input (`Order`), a line out for it (`Report`).
// It lives as long as its standard input, so that a thousand calls cost one process.
import { createInterface } from "node:readline";
import { askDns } from "./caller/dns.ts";
import { callGrpc } from "./caller/grpc.ts";
import { HttpCaller } from "./caller/http.ts";
import { failureOf, type Order, type Report, type Result } from "./caller/order.ts";
import { callTcp } from "./caller/tcp.ts";
import { callWebSocket } from "./caller/websocket.ts";
import { isProgram } from "./target.ts";

/** Makes the calls of one order, so many at a time. A call that fails is a result like any other. */
export async function makeCalls(order: Order): Promise<readonly Result[]> {
  const http = order.http ? new HttpCaller(order.http, order) : undefined;
  const once = (): Promise<Partial<Result>> => {
    if (http) return http.call();
    if (order.tcp) return callTcp(order.tcp, order.timeoutMs);
    if (order.grpc) return callGrpc(order.grpc, order.timeoutMs);
    if (order.websocket) return callWebSocket(order.websocket, order.timeoutMs);
    if (order.dns) return askDns(order.dns, order.timeoutMs);
    throw new Error("an order names what is to be called");
  };
  const results: Result[] = [];
  let left = order.times;
  const work = async () => {
    while (left > 0) {
      left--;
      const started = performance.now();
      const outcome = await once().catch(failureOf);
      results.push({ ...outcome, tookMs: Math.round(performance.now() - started) });
    }
  };
  await Promise.all(Array.from({ length: Math.min(order.parallel, order.times) }, work));
  http?.close();
  return results;
}

if (isProgram(import.meta.url)) {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const order = JSON.parse(line) as Order;
    makeCalls(order).then(
      (results) => process.stdout.write(`${JSON.stringify({ id: order.id, results } satisfies Report)}\n`),
      (error: Error) => process.stdout.write(`${JSON.stringify({ id: order.id, problem: error.message })}\n`),
    );
  });
  lines.on("close", () => process.exit(0));
}
