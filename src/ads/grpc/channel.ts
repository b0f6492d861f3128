import type { DescMethodBiDiStreaming, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { Client, type ClientDuplexStream, Metadata } from "@grpc/grpc-js";
import type { Clock, Scope } from "../../base/index.ts";
import { methodDefinition } from "../../proto/index.ts";
import { type ClientSecurity, channelCredentials, serverNameOf } from "./credentials.ts";
import { bytesOr } from "./server.ts";
import { failureFromCall, grpcFailure } from "./status.ts";

export interface ChannelOptions {
  /** `host:port`, `ip:port`, `[ip6]:port` or `unix:/path`. */
  readonly target: string;
  readonly security: ClientSecurity;
  /** 64 MiB unless told otherwise. */
  readonly maxResponseBytes?: number;
  /** Every 30 s and 10 s unless told otherwise. Without an answer in time, the calls fail as unavailable. */
  readonly keepAlive?: { readonly everyMs: number; readonly timeoutMs: number };
}

export interface CallOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** The caller's end of a call with messages both ways. */
export interface ClientStream<Request, Response> {
  /** Ends when the server ended the call well; throws a `Failure` with `grpc/<status>` otherwise. To be read once. */
  readonly responses: AsyncIterable<Response>;
  /** Resolves when the transport has taken the message. Bytes are sent as they are, as the encoded message. */
  send(request: Request | Uint8Array): Promise<void>;
  /** Nothing more to say. */
  end(): void;
  /** Gives the call up. */
  cancel(): void;
}

/** Connections to one server, made when a call needs one and made again after a loss, with the credentials of then. */
export interface GrpcChannel {
  unary<M extends DescMethodUnary>(
    method: M,
    request: MessageShape<M["input"]>,
    options: CallOptions & { readonly timeoutMs: number; readonly clock: Clock },
  ): Promise<MessageShape<M["output"]>>;
  bidi<M extends DescMethodBiDiStreaming>(
    method: M,
    options?: CallOptions,
  ): ClientStream<MessageShape<M["input"]>, MessageShape<M["output"]>>;
  close(): void;
}

/** Opens nothing yet. Closes with the scope, and its calls with it. */
export function openChannel(options: ChannelOptions, scope: Scope): GrpcChannel {
  const { keepAlive = { everyMs: 30_000, timeoutMs: 10_000 } } = options;
  const serverName = serverNameOf(options.security);
  const client = new Client(options.target, channelCredentials(options.security), {
    "grpc.max_receive_message_length": options.maxResponseBytes ?? 64 * 1024 * 1024,
    "grpc.keepalive_time_ms": keepAlive.everyMs,
    "grpc.keepalive_timeout_ms": keepAlive.timeoutMs,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 5_000,
    // Else channels with other credentials would share its connections, a proxy from the environment would stand
    // between, and every name would be looked up for a TXT record as well.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_http_proxy": 0,
    "grpc.service_config_disable_resolution": 1,
    "grpc.enable_channelz": 0,
    ...(serverName === undefined ? {} : { "grpc.ssl_target_name_override": serverName }),
  });
  const own = scope.child();
  own.defer(() => client.close());
  return {
    unary: (method, request, call) => callUnary({ client, method, request, target: options.target, call }),
    bidi: (method, call) => callBidi({ client, method, target: options.target, call: call ?? {}, closing: own.signal }),
    close: () => void own.close(),
  };
}

function callUnary<M extends DescMethodUnary>(options: {
  readonly client: Client;
  readonly method: M;
  readonly request: MessageShape<M["input"]>;
  readonly target: string;
  readonly call: CallOptions & { readonly timeoutMs: number; readonly clock: Clock };
}): Promise<MessageShape<M["output"]>> {
  const { client, method, request, target, call } = options;
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const where = `${method.name} of "${target}"`;
  return new Promise((resolve, reject) => {
    if (call.signal?.aborted) return reject(call.signal.reason);
    const running = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadataOf(call),
      (failed, response) => {
        timer.cancel();
        call.signal?.removeEventListener("abort", onAbort);
        if (call.signal?.aborted) reject(call.signal.reason);
        else if (late) reject(grpcFailure("deadline-exceeded", `${where}: no answer within ${call.timeoutMs} ms`));
        else if (failed) reject(failureFromCall(failed, where));
        else resolve(response as MessageShape<M["output"]>);
      },
    );
    const onAbort = () => running.cancel();
    let late = false;
    // By our own clock and not by the library's deadline, so that a test can hold the time.
    const timer = call.clock.after(call.timeoutMs, () => {
      late = true;
      running.cancel();
    });
    call.signal?.addEventListener("abort", onAbort, { once: true });
  });
}

function callBidi<M extends DescMethodBiDiStreaming>(options: {
  readonly client: Client;
  readonly method: M;
  readonly target: string;
  readonly call: CallOptions;
  readonly closing: AbortSignal;
}): ClientStream<MessageShape<M["input"]>, MessageShape<M["output"]>> {
  const { client, method, target, call, closing } = options;
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const stream: ClientDuplexStream<unknown, MessageShape<M["output"]>> = client.makeBidiStreamRequest(
    path,
    bytesOr(requestSerialize as (message: never) => Buffer),
    responseDeserialize,
    metadataOf(call),
  );
  const where = `${method.name} of "${target}"`;
  const over = new AbortController();
  const finish = (failure: unknown) => {
    call.signal?.removeEventListener("abort", cancel);
    closing.removeEventListener("abort", cancel);
    over.abort(failure);
  };
  const cancel = () => stream.cancel();
  // An error that nobody listens to would end the process; who reads `responses` gets it as well.
  stream.on("error", (failed) => finish(failureFromCall(failed, where)));
  stream.on("end", () => finish(grpcFailure("unavailable", `${where}: the server ended the call`)));
  for (const signal of [call.signal, closing]) {
    if (signal?.aborted) cancel();
    else signal?.addEventListener("abort", cancel, { once: true });
  }
  return {
    responses: responsesOf(stream, where),
    send: (request) =>
      new Promise((resolve, reject) => {
        if (over.signal.aborted) return reject(over.signal.reason);
        const onOver = () => reject(over.signal.reason);
        over.signal.addEventListener("abort", onOver, { once: true });
        stream.write(request, (failed: unknown) => {
          over.signal.removeEventListener("abort", onOver);
          if (failed) reject(failureFromCall(failed, where));
          else resolve();
        });
      }),
    end: () => stream.end(),
    cancel,
  };
}

async function* responsesOf<T>(stream: ClientDuplexStream<unknown, T>, where: string): AsyncGenerator<T> {
  try {
    yield* stream.iterator({ destroyOnReturn: false });
  } catch (failed) {
    throw failureFromCall(failed, where);
  } finally {
    stream.cancel();
  }
}

function metadataOf({ metadata }: CallOptions): Metadata {
  const written = new Metadata();
  for (const [key, value] of Object.entries(metadata ?? {})) written.set(key, value);
  return written;
}
