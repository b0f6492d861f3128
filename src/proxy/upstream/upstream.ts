import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { SocketAddress } from "../../values/index.ts";
import type { ResponseFlag } from "../l4/access-log.ts";
import type { TlsFacts } from "../l4/connection.ts";
import type { Stop } from "../l4/stop.ts";

/** One address that answers for a cluster. The same object as long as configuration does not change it. */
export interface Endpoint {
  readonly address: SocketAddress;
  /** `ip:port`, for maps and logs. */
  readonly key: string;
  readonly weight: number;
  readonly priority: number;
  /** `envoy.transport_socket_match` and the like, as plain values. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

export interface PickContext {
  /** Endpoints (keys) that this request has tried and should avoid if another is there. */
  readonly tried?: ReadonlySet<string> | undefined;
  /** Priorities that are passed over as long as another has something. */
  readonly triedPriorities?: ReadonlySet<number> | undefined;
  /** For consistent hashing; undefined balances at random. */
  readonly hash?: number | undefined;
  /** For ORIGINAL_DST clusters: where the caller meant to go. */
  readonly destination?: SocketAddress | undefined;
}

export type Picked =
  | { readonly kind: "endpoint"; readonly endpoint: Endpoint }
  | { readonly kind: "none"; readonly flag: ResponseFlag; readonly reason: string };

/** A connection to an endpoint, protected as the cluster says. */
export interface UpstreamSocket {
  readonly socket: Socket | TLSSocket;
  readonly endpoint: Endpoint;
  readonly local: SocketAddress;
  readonly tls: TlsFacts | undefined;
}

export interface ConnectOptions {
  readonly signal?: Stop;
  /** Protocols to offer in place of the cluster's own list. */
  readonly alpn?: readonly string[];
  /** Whom the connection carries, for clusters that announce it by the PROXY protocol. */
  readonly carries?: Carried;
}

/** Whose bytes a connection carries, and where they were meant to go. */
export interface Carried {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
}

/** How a request or connection ended, for outlier detection and least request. */
export type Outcome = "success" | "gateway-error" | "server-error" | "connect-failure" | "cancelled";

/** A cluster while it runs. */
export interface Upstream {
  readonly name: string;
  /** For logs. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** What is spoken to it; "downstream" means whatever the caller speaks. */
  readonly httpProtocol: "http1" | "http2" | "downstream";
  /** Requests on one connection before it is closed; undefined for no limit. */
  readonly maxRequestsPerConnection: number | undefined;
  readonly idleTimeoutMs: number;
  /** Age at which a connection takes nothing new; undefined for no limit. */
  readonly maxDurationMs: number | undefined;
  /** Each connection says first whom it carries, so it carries nobody else. */
  readonly announces: boolean;
  readonly limits: {
    readonly maxConnections: number;
    readonly maxPendingRequests: number;
    readonly maxRequests: number;
    readonly maxRetries: number;
    readonly retryBudget: { readonly percent: number; readonly least: number } | undefined;
  };
  /**
   * The first answer about the cluster's names, while it is still to come: nobody to pick means nothing before. It
   * always resolves, in the time that a name service has.
   */
  readonly settling?: Promise<void> | undefined;
  pick(context: PickContext): Picked;
  /** Throws a `Failure` (`upstream/connect-timeout`, `upstream/connect-refused`, `upstream/tls`, …) within the connect timeout. */
  connect(endpoint: Endpoint, options?: ConnectOptions): Promise<UpstreamSocket>;
  /** Counts a request in; call the returned function exactly once when it has ended. */
  begin(endpoint: Endpoint): (outcome: Outcome) => void;
  /** Aborts when the cluster was removed or changed in a way that its connections must not outlive. */
  readonly gone: AbortSignal;
  /** Called when endpoints leave: idle connections to them should be closed, running requests finish. */
  onEndpointsRemoved(notify: (keys: ReadonlySet<string>) => void): () => void;
}

/** Clusters by name. */
export interface Upstreams {
  get(cluster: string): Upstream | undefined;
}
