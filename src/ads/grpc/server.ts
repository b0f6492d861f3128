import { lstatSync, unlinkSync } from "node:fs";
import { chmod } from "node:fs/promises";
import { connect } from "node:net";
import type { DescMethod, DescService, MessageShape } from "@bufbuild/protobuf";
import { Server, type ServerDuplexStream, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { explain, Failure, type Logger, type Scope } from "../../base/index.ts";
import { serviceDefinition } from "../../proto/index.ts";
import { type CallerCertificate, callerCertificate, type ServerSecurity, serverCredentials } from "./credentials.ts";
import { grpcFailure, statusFromFailure } from "./status.ts";

/** Who calls: the address (`ip:port`, or what the transport has), and the certificate if a believed one was shown. */
export interface Caller {
  readonly address: string;
  readonly certificate: CallerCertificate | undefined;
}

/** What a handler knows of the call beside the message. */
export interface ServerCall {
  readonly caller: Caller;
  /** The text values of one metadata key, lower case, in the order sent. */
  metadata(key: string): readonly string[];
  /** Aborts when the caller is gone or the server stops. */
  readonly signal: AbortSignal;
}

/** A call with messages both ways. When the handler returns the call ends well; when it throws, with that status. */
export interface ServerStream<Request, Response> extends ServerCall {
  /** Ends when the caller has said all; throws when the call is cut off. */
  readonly requests: AsyncIterable<Request>;
  /**
   * Resolves when the transport has taken the message, which a slow reader delays: who waits for it before making the
   * next holds one message at most. Bytes are sent as they are, as the encoded message.
   */
  send(response: Response | Uint8Array): Promise<void>;
  /** Ends the call with this status now, whatever the handler waits for; `requests` throws. */
  fail(failure: unknown): void;
}

type Handler<M extends DescMethod> = M["methodKind"] extends "unary"
  ? (request: MessageShape<M["input"]>, call: ServerCall) => Promise<MessageShape<M["output"]>>
  : M["methodKind"] extends "bidi_streaming"
    ? (stream: ServerStream<MessageShape<M["input"]>, MessageShape<M["output"]>>) => Promise<void>
    : never;

/** A handler for each method that is served; the others answer UNIMPLEMENTED. */
export type Handlers<S extends DescService> = { readonly [K in keyof S["method"]]?: Handler<S["method"][K]> };

/** A service with its handlers, the types of both checked against each other. */
export interface Implementation {
  readonly service: DescService;
  readonly methods: Readonly<Record<string, unknown>>;
}

export function implement<S extends DescService>(service: S, methods: Handlers<S>): Implementation {
  return { service, methods };
}

export type GrpcListen = { readonly ip: string; readonly port: number } | { readonly path: string };

export interface GrpcServerOptions {
  /** Port 0 takes a free one. A socket at `path` that nobody serves any more is replaced. */
  readonly listen: GrpcListen;
  readonly security: ServerSecurity;
  readonly services: readonly Implementation[];
  readonly log: Logger;
  readonly limits?: {
    /** 4 MiB unless told otherwise; also after decompression. */
    readonly maxRequestBytes?: number;
    /** No limit unless told otherwise. */
    readonly maxResponseBytes?: number;
    /** Calls at once on one connection; 100 unless told otherwise. */
    readonly maxStreamsPerConnection?: number;
  };
  /** A connection that does not answer a ping within `timeoutMs` is dropped; every 30 s and 10 s unless told otherwise. */
  readonly keepAlive?: { readonly everyMs: number; readonly timeoutMs: number };
  /** Connections older than this are asked to come again, give or take a tenth; for ever unless told otherwise. */
  readonly maxConnectionAgeMs?: number;
}

/** Returns when it listens, with the bound port (0 for a path). Closing lets unary calls finish while draining. */
export async function startGrpcServer(options: GrpcServerOptions, scope: Scope): Promise<{ readonly port: number }> {
  const { limits = {}, keepAlive = { everyMs: 30_000, timeoutMs: 10_000 }, log } = options;
  const server = new Server({
    "grpc.max_receive_message_length": limits.maxRequestBytes ?? 4 * 1024 * 1024,
    "grpc.max_send_message_length": limits.maxResponseBytes ?? -1,
    "grpc.max_concurrent_streams": limits.maxStreamsPerConnection ?? 100,
    "grpc.keepalive_time_ms": keepAlive.everyMs,
    "grpc.keepalive_timeout_ms": keepAlive.timeoutMs,
    ...(options.maxConnectionAgeMs === undefined
      ? {}
      : { "grpc.max_connection_age_ms": options.maxConnectionAgeMs, "grpc.max_connection_age_grace_ms": 5_000 }),
  });
  const running = new Set<() => void>();
  for (const implementation of options.services) addService(server, implementation, { log, running, scope });
  const bindTo = "path" in options.listen ? `unix:${options.listen.path}` : hostPort(options.listen);
  if ("path" in options.listen) await removeDeadSocket(options.listen.path);
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(bindTo, serverCredentials(options.security, log, scope), (cause, port) => {
      if (cause) reject(new Failure("grpc/listen", `cannot listen on "${bindTo}": ${cause.message}`, { cause }));
      else resolve(port);
    });
  });
  scope.defer((deadline) => {
    for (const cutOff of [...running]) cutOff();
    return stop(server, deadline);
  });
  if ("path" in options.listen) await chmod(options.listen.path, 0o600);
  return { port: "path" in options.listen ? 0 : bound };
}

function stop(server: Server, deadline: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const force = () => server.forceShutdown();
    server.tryShutdown(() => {
      deadline.removeEventListener("abort", force);
      resolve();
    });
    if (deadline.aborted) force();
    else deadline.addEventListener("abort", force, { once: true });
  });
}

function addService(server: Server, implementation: Implementation, deps: HandlerDeps): void {
  const definition = Object.fromEntries(
    Object.entries(serviceDefinition(implementation.service)).map(([name, method]) => [
      name,
      { ...method, responseSerialize: bytesOr(method.responseSerialize) },
    ]),
  );
  const handlers: Record<string, (...args: never[]) => void> = {};
  for (const method of implementation.service.methods) {
    const handler = implementation.methods[method.localName];
    if (handler === undefined) continue;
    const log = deps.log.child({ method: `${method.parent.typeName}/${method.name}` });
    handlers[method.localName] =
      method.methodKind === "unary"
        ? serveUnary(handler as UnaryHandler, { ...deps, log })
        : serveBidi(handler as BidiHandler, { ...deps, log });
  }
  server.addService(definition as never, handlers as never);
}

/** Lets a message through that is encoded already. */
export function bytesOr(serialize: (message: never) => Buffer): (message: unknown) => Buffer {
  return (message) =>
    message instanceof Uint8Array
      ? Buffer.from(message.buffer, message.byteOffset, message.byteLength)
      : serialize(message as never);
}

type UnaryHandler = (request: unknown, call: ServerCall) => Promise<unknown>;
type BidiHandler = (stream: ServerStream<unknown, unknown>) => Promise<void>;
interface HandlerDeps {
  readonly log: Logger;
  /** How to end each call that has no end of its own. (Thousands of listeners on one signal would be slow to leave.) */
  readonly running: Set<() => void>;
  readonly scope: Scope;
}

function serveUnary(handler: UnaryHandler, { log }: HandlerDeps) {
  return (call: ServerUnaryCall<unknown, unknown>, reply: sendUnaryData<unknown>): void => {
    const gone = new AbortController();
    call.on("cancelled", () => gone.abort(grpcFailure("cancelled", "the caller is gone")));
    const answer = async () => handler(call.request, serverCall(call, gone.signal));
    answer().then(
      (response) => reply(null, response),
      (caught) => {
        logFailure(log, caught);
        reply(statusFromFailure(caught));
      },
    );
  };
}

function serveBidi(handler: BidiHandler, { log, running, scope }: HandlerDeps) {
  return (call: ServerDuplexStream<unknown, unknown>): void => {
    const over = new AbortController();
    let ended = false;
    const end = (caught?: unknown) => {
      if (ended) return;
      ended = true;
      running.delete(onStop);
      over.abort(caught ?? grpcFailure("cancelled", "the call is over"));
      if (call.cancelled) return;
      // The library turns an error event into the status, and ends the stream with it.
      if (caught === undefined) call.end();
      else call.emit("error", statusFromFailure(caught));
    };
    const onStop = () => end(grpcFailure("unavailable", "the server stops", { hint: "come again" }));
    call.on("cancelled", () => end(grpcFailure("cancelled", "the caller is gone")));
    if (scope.closed) {
      onStop();
      return;
    }
    running.add(onStop);
    const send = (response: unknown) =>
      new Promise<void>((resolve, reject) => {
        if (over.signal.aborted) return reject(over.signal.reason);
        // After a reset the library never calls back, so the signal has to settle this too.
        const onOver = () => reject(over.signal.reason);
        over.signal.addEventListener("abort", onOver, { once: true });
        call.write(response, (failed: unknown) => {
          over.signal.removeEventListener("abort", onOver);
          if (failed) reject(failed);
          else resolve();
        });
      });
    const stream: ServerStream<unknown, unknown> = {
      ...serverCall(call, over.signal),
      requests: requestsOf(call, over.signal),
      send,
      fail: end,
    };
    const run = async () => handler(stream);
    run().then(
      () => end(),
      (caught) => {
        if (!over.signal.aborted) logFailure(log, caught);
        end(caught);
      },
    );
  };
}

async function* requestsOf(call: ServerDuplexStream<unknown, unknown>, over: AbortSignal): AsyncGenerator<unknown> {
  try {
    // Leaving the loop must not destroy the stream: its status has still to be sent.
    yield* call.iterator({ destroyOnReturn: false });
  } catch (caught) {
    throw over.aborted ? over.reason : caught;
  }
  if (over.aborted) throw over.reason;
}

function serverCall(
  call: ServerDuplexStream<unknown, unknown> | ServerUnaryCall<unknown, unknown>,
  signal: AbortSignal,
): ServerCall {
  const { sslPeerCertificate } = call.getAuthContext();
  return {
    caller: {
      address: call.getPeer(),
      certificate: sslPeerCertificate === undefined ? undefined : callerCertificate(sslPeerCertificate),
    },
    metadata: (key) => call.metadata.get(key).filter((value): value is string => typeof value === "string"),
    signal,
  };
}

/** What was refused on purpose is the caller's to see; the rest is ours to see. */
function logFailure(log: Logger, caught: unknown): void {
  if (caught instanceof Failure && caught.code.startsWith("grpc/")) log.debug({ err: caught }, "call refused");
  else log.error({ err: caught }, "call failed");
}

function hostPort({ ip, port }: { readonly ip: string; readonly port: number }): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** A crash leaves the socket's file behind, and binding to it would fail for ever. One that answers is left alone. */
async function removeDeadSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) throw new Failure("grpc/listen", `cannot listen on "${path}": there is a file of that name`);
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on("error", () => resolve(false));
  });
  if (alive) throw new Failure("grpc/listen", `cannot listen on "${path}": another process serves there`);
  try {
    unlinkSync(path);
  } catch (cause) {
    throw new Failure("grpc/listen", `cannot replace the dead socket "${path}": ${explain(cause)}`, { cause });
  }
}
