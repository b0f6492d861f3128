// Looks at pods as a kubelet does: a request a line on standard input, a result a line on standard output.
import { request as httpRequest } from "node:http";
import { connect as http2Connect } from "node:http2";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import type { ProbeRequest, ProbeResult } from "./prober.ts";

const timeoutMessage = "context deadline exceeded (no answer within the probe's timeout)";

function check(probe: ProbeRequest): Promise<ProbeResult> {
  return new Promise((resolve) => {
    let close = () => {};
    const timer = setTimeout(() => finish({ ok: false, message: timeoutMessage }), probe.timeoutMs);
    const finish = (result: ProbeResult) => {
      clearTimeout(timer);
      close();
      resolve(result);
    };
    const fail = (error: Error) => finish({ ok: false, message: error.message || String(error) });
    switch (probe.kind) {
      case "tcp": {
        const socket = connect(probe.port, probe.host);
        close = () => socket.destroy();
        socket.once("connect", () => finish({ ok: true, message: "" }));
        socket.on("error", fail);
        return;
      }
      case "http": {
        const { scheme, host, port, path, headers } = probe;
        const own = Object.fromEntries(headers.map(({ name, value }) => [name, value]));
        const has = (name: string) => headers.some((header) => header.name.toLowerCase() === name);
        const sent = (scheme === "https" ? httpsRequest : httpRequest)({
          host,
          port,
          path,
          agent: false,
          // A kubelet does not look at the certificate either.
          rejectUnauthorized: false,
          headers: {
            ...(has("user-agent") ? {} : { "user-agent": "kube-probe/1.33" }),
            ...(has("accept") ? {} : { accept: "*/*" }),
            ...own,
            connection: "close",
          },
        });
        close = () => sent.destroy();
        sent.once("response", (response) => {
          response.on("error", () => {});
          const status = response.statusCode ?? 0;
          const ok = status >= 200 && status < 400;
          finish({ ok, message: ok ? "" : `HTTP probe failed with statuscode: ${status}` });
        });
        sent.on("error", fail);
        sent.end();
        return;
      }
      case "grpc": {
        const session = http2Connect(`http://${probe.host}:${probe.port}`);
        close = () => session.destroy();
        session.on("error", fail);
        const stream = session.request({
          ":method": "POST",
          ":path": "/grpc.health.v1.Health/Check",
          "content-type": "application/grpc",
          te: "trailers",
        });
        stream.on("error", fail);
        const body: Buffer[] = [];
        stream.on("data", (chunk: Buffer) => body.push(chunk));
        // HealthCheckResponse: field 1, SERVING is 1 (grpc.health.v1), behind five bytes of framing.
        stream.on("end", () => {
          const ok = Buffer.concat(body)
            .subarray(5)
            .equals(Buffer.from([8, 1]));
          finish({ ok, message: ok ? "" : "service is not serving" });
        });
        const service = Buffer.from(probe.service);
        const message =
          service.length > 0 ? Buffer.concat([Buffer.from([10, service.length]), service]) : Buffer.alloc(0);
        const head = Buffer.alloc(5);
        head.writeUInt32BE(message.length, 1);
        stream.end(Buffer.concat([head, message]));
      }
    }
  });
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const { id, ...probe } = JSON.parse(line) as ProbeRequest & { readonly id: number };
  void check(probe).then((result) => process.stdout.write(`${JSON.stringify({ id, ...result })}\n`));
});
lines.on("close", () => process.exit(0));
