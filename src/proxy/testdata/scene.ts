import { connect, createServer, type Server, type Socket } from "node:net";
import { onTestFinished } from "vitest";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../../base/index.ts";
import type { Ip, SocketAddress } from "../../values/index.ts";
import type { Secret, Secrets } from "../config/secret.ts";
import { ConfigStore, type Incoming } from "../config/store.ts";
import { type EmbeddedProxy, type ProxyDeps, startProxy } from "../proxy.ts";
import { typeUrls } from "./resources.ts";

export interface Given {
  readonly clusters?: readonly Incoming[];
  readonly endpoints?: readonly Incoming[];
  readonly routes?: readonly Incoming[];
  readonly listeners?: readonly Incoming[];
}

export interface RunningScene {
  readonly proxy: EmbeddedProxy;
  readonly store: ConfigStore;
  readonly secrets: Cell<Secrets>;
  readonly metrics: Metrics;
  readonly scope: Scope;
  /** Applies a change; throws when it is refused. */
  change(
    given: Given,
    removed?: { readonly listeners?: readonly string[]; readonly clusters?: readonly string[] },
  ): Promise<void>;
  /** First bound address of a listener. */
  at(listener: string): SocketAddress;
}

/** A proxy that runs what is given, stopped after the test. */
export async function scene(
  given: Given,
  options: { readonly secrets?: Readonly<Record<string, Secret>> } & Partial<Omit<ProxyDeps, "secrets">> = {},
): Promise<RunningScene> {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const log = options.log ?? silentLogger;
  const clock = options.clock ?? systemClock;
  const store = new ConfigStore({ clock, log });
  const { secrets: named, ...deps } = options;
  const secrets = new Cell<Secrets>(new Map(Object.entries(named ?? {})));
  const metrics = new Metrics();
  const apply = (
    what: Given,
    removed: { readonly listeners?: readonly string[]; readonly clusters?: readonly string[] } = {},
  ) => {
    const refusals = [
      ...store.apply(typeUrls.cluster, what.clusters ?? [], []),
      ...store.apply(typeUrls.endpoints, what.endpoints ?? [], []),
      ...store.apply(typeUrls.listener, what.listeners ?? [], removed.listeners ?? []),
      ...store.apply(typeUrls.route, what.routes ?? [], []),
      ...store.apply(typeUrls.cluster, [], removed.clusters ?? []),
    ];
    if (refusals.length > 0) throw new Error(refusals.map(({ name, message }) => `${name}: ${message}`).join("\n"));
  };
  apply(given);
  const proxy = await startProxy(
    {
      clock,
      random: Math.random,
      log,
      metrics,
      store,
      secrets,
      resolve: () => Promise.reject(new Error("no name service in this test")),
      ...deps,
    } as ProxyDeps,
    scope,
  );
  return {
    proxy,
    store,
    secrets,
    metrics,
    scope,
    change: async (what, removed) => {
      apply(what, removed);
      await proxy.settled();
    },
    at: (name) => {
      const [first] = proxy.addressesOf(name);
      if (!first) throw new Error(`listener "${name}" is not bound: ${JSON.stringify(proxy.listeners())}`);
      return first;
    },
  };
}

/** A server on loopback, closed after the test with all its connections. */
export async function server(
  onConnection: (socket: Socket) => void,
): Promise<SocketAddress & { readonly accepted: () => number }> {
  const sockets = new Set<Socket>();
  let accepted = 0;
  const made: Server = createServer({ allowHalfOpen: true }, (socket) => {
    accepted++;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
    onConnection(socket);
  });
  await new Promise<void>((resolve) => made.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    made.close();
  });
  return { ip: "127.0.0.1" as Ip, port: (made.address() as { port: number }).port, accepted: () => accepted };
}

export const echo = () => server((socket) => socket.pipe(socket));

/** A connection of the test's own, destroyed after it. */
export async function dial({ ip, port }: SocketAddress): Promise<Socket> {
  const socket = connect({ host: ip, port, allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve).once("error", reject);
  });
  socket.off("error", () => {});
  socket.on("error", () => {});
  return socket;
}

/** Everything until the end, or until the connection breaks; then why. */
export function readAll(socket: Socket): Promise<{ readonly text: string; readonly error: string | undefined }> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let error: string | undefined;
    const done = () => resolve({ text: Buffer.concat(chunks).toString("latin1"), error });
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.once("error", (caught: NodeJS.ErrnoException) => {
      error = caught.code ?? caught.message;
    });
    socket.once("end", done).once("close", done);
  });
}

/** The next `count` bytes. */
export function readBytes(socket: Socket, count: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let got = 0;
    const onData = (chunk: Buffer) => {
      chunks.push(chunk);
      got += chunk.length;
      if (got < count) return;
      socket.off("data", onData);
      resolve(Buffer.concat(chunks));
    };
    socket.on("data", onData);
    socket.once("close", () => reject(new Error(`closed after ${got} of ${count} bytes`)));
  });
}
