import type { SocketAddress } from "../../values/index.ts";
import type { TlsFacts } from "./connection.ts";

/**
 * Why something ended as it did, in Envoy's words:
 * DC downstream closed, DI delay injected, DPE downstream protocol error, FI fault injected, LR local reset,
 * NC no cluster, NR no route or no filter chain, RL rate limited, SI stream idle timeout, UAEX denied by policy,
 * UC upstream closed, UF upstream connection failure, UH no healthy upstream, UMSDR upstream max duration,
 * UO overflow (circuit open), UPE upstream protocol error, UR upstream reset, URX retries exhausted,
 * UT upstream timeout, OM overload.
 */
export type ResponseFlag =
  | "DC"
  | "DI"
  | "DPE"
  | "FI"
  | "LR"
  | "NC"
  | "NR"
  | "RL"
  | "SI"
  | "UAEX"
  | "UC"
  | "UF"
  | "UH"
  | "UMSDR"
  | "UO"
  | "UPE"
  | "UR"
  | "URX"
  | "UT"
  | "OM";

/** One request, or one TCP connection, as the access log tells it. What is unknown is undefined and printed as null. */
export interface AccessRecord {
  readonly startMs: number;
  readonly durationMs: number;
  readonly listener: string;
  readonly protocol: string | undefined;
  readonly method: string | undefined;
  readonly authority: string | undefined;
  readonly path: string | undefined;
  readonly responseCode: number | undefined;
  readonly flags: readonly ResponseFlag[];
  /** A stable word for what happened: `via_upstream`, `route_not_found`, `filter_chain_not_found`, `connect_timeout`, … */
  readonly details: string | undefined;
  /** In a sentence: why the connection was ended, where it was not the peers' doing. */
  readonly termination?: string | undefined;
  /** In a sentence: what failed upstream, for people. */
  readonly upstreamFailure: string | undefined;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly routeName: string | undefined;
  readonly upstreamCluster: string | undefined;
  /** What configuration says of the cluster beside how to use it. */
  readonly upstreamMetadata?: Readonly<Record<string, unknown>> | undefined;
  readonly upstreamHost: SocketAddress | undefined;
  readonly upstreamLocal: SocketAddress | undefined;
  readonly upstreamPeerUri: string | undefined;
  readonly attempts: number;
  readonly downstreamRemote: SocketAddress;
  readonly downstreamLocal: SocketAddress;
  readonly sni: string | undefined;
  readonly tls: TlsFacts | undefined;
  /** First value of a request header, lower-case name. */
  requestHeader(name: string): string | undefined;
  responseHeader(name: string): string | undefined;
}

/** Where records go: made from the `access_log` of a listener or filter. */
export interface AccessLog {
  write(record: AccessRecord): void;
}
