/** What is spoken on a port, as its author declared it. `unset` is found out from the first bytes. */
export type Protocol =
  | "http"
  | "http2"
  | "grpc"
  | "grpc-web"
  | "tcp"
  | "tls"
  | "https"
  | "mongo"
  | "redis"
  | "mysql"
  | "udp"
  | "unset";

const words: Readonly<Record<string, Protocol>> = {
  http: "http",
  http_proxy: "http",
  http2: "http2",
  h2c: "http2",
  "kubernetes.io/h2c": "http2",
  "kubernetes.io/ws": "http",
  grpc: "grpc",
  "grpc-web": "grpc-web",
  tcp: "tcp",
  thrift: "tcp",
  tls: "tls",
  https: "https",
  mongo: "mongo",
  redis: "redis",
  mysql: "mysql",
  udp: "udp",
};

/** A declared word, in any case, to its protocol; undefined for a word nobody knows. */
export function parseProtocol(word: string): Protocol | undefined {
  return words[word.toLowerCase()];
}

export function isPortNumber(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= 65535;
}

/** Ports whose servers speak first, so that waiting for the client's first bytes would only stall them. */
const serverFirstPorts: ReadonlySet<number> = new Set([25, 53, 3306, 27017]);

/**
 * The protocol of a Kubernetes Service port: UDP by transport, else `appProtocol`, else the port's name up to its
 * first dash (`http-metrics` is HTTP), else unset, except for well-known ports whose server speaks first.
 */
export function protocolOfServicePort(port: {
  readonly port: number;
  readonly name?: string | undefined;
  readonly protocol?: string | undefined;
  readonly appProtocol?: string | undefined;
}): Protocol {
  if (port.protocol === "UDP") return "udp";
  if (port.appProtocol) {
    const declared = parseProtocol(port.appProtocol);
    if (declared) return declared;
  }
  const name = (port.name ?? "").toLowerCase();
  const fromName = name.startsWith("grpc-web") ? "grpc-web" : parseProtocol(name.split("-")[0] ?? "");
  return fromName ?? (serverFirstPorts.has(port.port) ? "tcp" : "unset");
}

/** Requests that can be routed one by one. */
export function isHttp(protocol: Protocol): boolean {
  return protocol === "http" || protocol === "http2" || protocol === "grpc" || protocol === "grpc-web";
}

/** Spoken as HTTP/2 to the server. */
export function isHttp2(protocol: Protocol): boolean {
  return protocol === "http2" || protocol === "grpc" || protocol === "grpc-web";
}

/** Carries a TLS ClientHello of the application's own. */
export function isTls(protocol: Protocol): boolean {
  return protocol === "tls" || protocol === "https";
}
