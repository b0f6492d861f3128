import { connect, createServer } from "node:net";

// Bytes passed on unread, a connection for each: what the runtime and the kernel take, whatever a proxy does.
const [, , listen, upstream] = process.argv;
createServer({ noDelay: true }, (client) => {
  const server = connect({ host: "127.0.0.1", port: Number(upstream), noDelay: true });
  client.on("data", (chunk) => server.write(chunk));
  server.on("data", (chunk) => client.write(chunk));
  for (const [one, other] of [
    [client, server],
    [server, client],
  ] as const) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
}).listen(Number(listen), "127.0.0.1");
