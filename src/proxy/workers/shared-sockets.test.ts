import { createServer, type Server } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import type { Ip } from "../../values/index.ts";
import { dial, readAll } from "../testdata/scene.ts";
import { handleBinder, SharedSockets } from "./shared-sockets.ts";

const address = { ip: "127.0.0.1" as Ip, port: 80 };

function scene() {
  const events: string[] = [];
  const sockets = new SharedSockets(({ port }) => {
    events.push(`bind ${port}`);
    return { close: () => void events.push(`close ${port}`) };
  });
  return { events, sockets };
}

test("an address is bound once, for all who ask", () => {
  const { events, sockets } = scene();
  expect(sockets.take("a", address, 1)).toBe(sockets.take("a", address, 2));
  expect(events).toEqual(["bind 80"]);
});

test("it is closed when nobody listens and the configuration does not want it", () => {
  const { events, sockets } = scene();
  sockets.retain(new Set(["a"]));
  sockets.take("a", address, 1);
  sockets.take("a", address, 2);
  sockets.release("a", 1);
  sockets.releaseAll(2);
  expect(events).toEqual(["bind 80"]);
  sockets.retain(new Set());
  expect(events).toEqual(["bind 80", "close 80"]);
});

test("one that a worker holds stays, whatever the configuration wants by now", () => {
  const { events, sockets } = scene();
  sockets.retain(new Set(["a"]));
  sockets.take("a", address, 1);
  sockets.retain(new Set());
  expect(events).toEqual(["bind 80"]);
  sockets.release("a", 1);
  expect(events).toEqual(["bind 80", "close 80"]);
});

test("nothing is bound after the end", () => {
  const { events, sockets } = scene();
  sockets.take("a", address, 1);
  sockets.close();
  expect(sockets.take("b", address, 1)).toBe("ECANCELED");
  expect(events).toEqual(["bind 80", "close 80"]);
});

const bind = handleBinder()!;
const free = { ip: "127.0.0.1" as Ip, port: 0 };

/** Listens on a handle, as a worker does. */
function listenOn(handle: unknown): Promise<Server> {
  const server = createServer((socket) => socket.end("served"));
  onTestFinished(() => void server.close());
  return new Promise((resolve) => void server.listen(handle, () => resolve(server)));
}

test("this runtime binds without accepting, and who connects is served by whoever listens", async () => {
  const handle = bind(free);
  if (typeof handle === "string") throw new Error(handle);
  const server = await listenOn(handle);
  const { port } = server.address() as { port: number };
  const socket = await dial({ ip: free.ip, port });
  expect(await readAll(socket)).toEqual({ text: "served", error: undefined });
});

test("an address that cannot be had gives the system's code", () => {
  // Of a net for documentation (RFC 5737): no machine has it.
  expect(bind({ ip: "192.0.2.1" as Ip, port: 0 })).toBe("EADDRNOTAVAIL");
});
