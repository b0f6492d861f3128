import { type Server as HttpServer, Server as HttpServerClass } from "node:http";
import type { AddressInfo, ListenOptions, Server } from "node:net";
import { hostname } from "node:os";

/** The pod's name, which says in a response who answered. */
export const servedBy = process.env["HOSTNAME"] || hostname();

/** How long calls that run may go on after SIGTERM: DRAIN_SECONDS, or 5 s. */
const drainMs = Number(process.env["DRAIN_SECONDS"] ?? 5) * 1_000;

/** Listens, and answers with the port, which matters when `port` was 0. Rejects when the port cannot be had. */
export function listen(server: Server, options: { readonly port: number; readonly host?: string }): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const where: ListenOptions = options.host ? { port: options.port, host: options.host } : { port: options.port };
    server.listen(where, () => {
      server.off("error", reject);
      server.on("error", (error) => console.error(`${servedBy}: ${error.message}`));
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/** A port or a list of ports from text such as `9000,9001`; prints what is wrong and ends the program otherwise. */
export function portsFrom(text: string): readonly number[] {
  const ports = text.split(",").map((part) => Number(part.trim()));
  if (ports.some((port) => !Number.isInteger(port) || port < 0 || port > 65535)) {
    fail(`"${text}" is no list of ports`);
  }
  return ports;
}

/** Serves until SIGTERM or SIGINT; then lets running calls end, for a while, and exits 0. */
export async function serveUntilStopped(
  name: string,
  servers: ReadonlyArray<{ readonly server: Server; readonly port: number }>,
): Promise<void> {
  const host = process.env["HOST"];
  try {
    for (const { server, port } of servers) {
      const bound = await listen(server, host ? { port, host } : { port });
      console.log(`${name}: listening on port ${bound}`);
    }
  } catch (error) {
    fail(`${name}: ${(error as Error).message}`);
  }
  let open = servers.length;
  const stop = () => {
    for (const { server } of servers) {
      server.close(() => {
        open--;
        if (open === 0) process.exit(0);
      });
      if (server instanceof HttpServerClass) (server as HttpServer).closeIdleConnections();
    }
    setTimeout(() => process.exit(0), drainMs).unref();
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
}

export function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
