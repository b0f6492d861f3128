/** TLS by the client itself, in PEM. */
export interface TlsOrder {
  readonly minVersion?: "TLSv1.2" | "TLSv1.3";
  readonly maxVersion?: "TLSv1.2" | "TLSv1.3";
  readonly sni: string | undefined;
  /** Whom the client believes; nobody is asked who they are when it is absent. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface HttpOrder {
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly bytes?: number;
  readonly version: "1.1" | "2";
  readonly via?: string;
  readonly tls?: TlsOrder;
}

export interface TcpOrder {
  readonly to: string;
  readonly send: string;
  readonly tls?: TlsOrder;
}

export interface GrpcOrder {
  readonly to: string;
  readonly method: "unary" | "stream";
  readonly message: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Behind the method's path: what the echo is asked to do. */
  readonly query?: string;
}

export interface WebSocketOrder {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly send: string;
}

export interface DnsOrder {
  readonly name: string;
  readonly type: "A" | "AAAA";
}

export interface Order {
  readonly id: number;
  readonly times: number;
  readonly parallel: number;
  readonly connection: "each" | "kept";
  readonly timeoutMs: number;
  readonly http?: HttpOrder;
  readonly tcp?: TcpOrder;
  readonly grpc?: GrpcOrder;
  readonly websocket?: WebSocketOrder;
  readonly dns?: DnsOrder;
}

export type CallError = "refused" | "reset" | "closed" | "timeout" | "tls" | "dns" | "unreachable" | "other";

/** What one call brought. */
export interface Result {
  readonly tookMs: number;
  readonly error?: CallError;
  /** The failure in the machine's words. */
  readonly why?: string;
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Text of the body, its beginning where it is long. */
  readonly body?: string;
  readonly bytes?: number;
  /** JSON that says who answered, where that does not come as a body. */
  readonly servedBy?: string;
  readonly messages?: readonly string[];
  readonly grpcStatus?: number;
  readonly addresses?: readonly string[];
  /** The client's own port, by which a proxy's log names it. */
  readonly localPort?: number;
}

export interface Report {
  readonly id: number;
  readonly results?: readonly Result[];
  readonly problem?: string;
}

/** A call that took too long. */
export class TimedOut extends Error {
  constructor(ms: number) {
    super(`no end within ${ms} ms`);
  }
}

/** A connection that ended, in good form, before it gave what was asked. */
export class ClosedEarly extends Error {}

export function failureOf(caught: unknown): Partial<Result> {
  const error = caught as NodeJS.ErrnoException;
  return { error: kindOf(error), why: error.code ? `${error.code}: ${error.message}` : error.message };
}

function kindOf(error: NodeJS.ErrnoException): CallError {
  if (error instanceof TimedOut) return "timeout";
  if (error instanceof ClosedEarly) return "closed";
  const { code = "", syscall, message } = error;
  if (code === "ECONNREFUSED") return "refused";
  if (code === "EHOSTUNREACH" || code === "ENETUNREACH") return "unreachable";
  if (code === "ETIMEDOUT") return "timeout";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN" || syscall === "getaddrinfo") return "dns";
  // Node calls an end without an answer a reset too; only the kernel's own says at which call.
  if (code === "ECONNRESET") return syscall === "read" || syscall === "write" ? "reset" : "closed";
  if (code === "EPIPE") return "reset";
  if (code.startsWith("ERR_HTTP2_STREAM") || code.startsWith("ERR_HTTP2_SESSION")) return "reset";
  if (code === "EPROTO" || /TLS|SSL|CERT|SIGNATURE|ISSUER|certificate/i.test(`${code} ${message}`)) return "tls";
  return "other";
}

/** Rejects with `TimedOut` when the work is not done in time; `stop` then ends what is left of it. */
export function within<T>(ms: number, work: Promise<T>, stop: () => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new TimedOut(ms));
      stop();
    }, ms);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
