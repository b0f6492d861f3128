import { isPortNumber } from "../../values/index.ts";

/** What kubelet would have asked the application, had it not to ask us: `httpGet`, `tcpSocket` or `grpc` of a probe. */
export type AppProber = {
  /** Kubelet's own patience, in milliseconds. */
  readonly timeoutMs: number;
} & (
  | {
      readonly by: "http";
      readonly port: number;
      readonly path: string;
      readonly secure: boolean;
      readonly headers: readonly (readonly [name: string, value: string])[];
    }
  | { readonly by: "tcp"; readonly port: number }
  | { readonly by: "grpc"; readonly port: number; readonly service: string }
);

/** By the path at which we are asked: `/app-health/<container>/readyz`, `livez` or `startupz`. */
export type AppProbers = ReadonlyMap<string, AppProber>;

const path = /^\/app-health\/[a-z0-9]([-a-z0-9]*[a-z0-9])?\/(readyz|livez|startupz)$/;

/** The content of `ISTIO_KUBE_APP_PROBERS`, or what is wrong with it, all of it. */
export function readAppProbers(text: string): AppProbers | { readonly problems: readonly string[] } {
  let written: unknown;
  try {
    written = JSON.parse(text);
  } catch (caught) {
    return { problems: [`not JSON: ${(caught as Error).message}`] };
  }
  if (!isObject(written)) return { problems: ["must be an object of probes by path"] };
  const problems: string[] = [];
  const probers = new Map<string, AppProber>();
  for (const [key, probe] of Object.entries(written)) {
    const prober = path.test(key)
      ? proberOf(probe)
      : `the path must be /app-health/<container>/readyz, livez or startupz`;
    if (typeof prober === "string") problems.push(`${JSON.stringify(key)}: ${prober}`);
    else probers.set(key, prober);
  }
  return problems.length > 0 ? { problems } : probers;
}

/** A probe as Kubernetes writes it, or what is wrong with it. */
function proberOf(probe: unknown): AppProber | string {
  if (!isObject(probe)) return "must be an object";
  const { httpGet, tcpSocket, grpc, timeoutSeconds = 1 } = probe;
  if (typeof timeoutSeconds !== "number" || !(timeoutSeconds > 0)) return "timeoutSeconds must be above 0";
  const timeoutMs = timeoutSeconds * 1000;
  const way = [httpGet, tcpSocket, grpc].filter(isObject);
  if (way.length !== 1) return "must have one of httpGet, tcpSocket, grpc";
  const port = Number(way[0]!["port"]);
  if (!isPortNumber(port)) return "port must be a number from 1 to 65535";
  if (isObject(tcpSocket)) return { by: "tcp", port, timeoutMs };
  if (isObject(grpc)) {
    const service = grpc["service"] ?? "";
    return typeof service === "string" ? { by: "grpc", port, service, timeoutMs } : "service must be text";
  }
  const { path: asked = "/", scheme = "HTTP", httpHeaders = [] } = httpGet as Readonly<Record<string, unknown>>;
  if (typeof asked !== "string") return "path must be text";
  if (scheme !== "HTTP" && scheme !== "HTTPS") return "scheme must be HTTP or HTTPS";
  if (!Array.isArray(httpHeaders)) return "httpHeaders must be a list";
  const headers: [string, string][] = [];
  for (const header of httpHeaders as readonly unknown[]) {
    const { name, value } = isObject(header) ? header : {};
    if (typeof name !== "string" || typeof value !== "string" || !isHeader(name, value))
      return "httpHeaders has one that cannot be";
    headers.push([name, value]);
  }
  return {
    by: "http",
    port,
    path: asked.startsWith("/") ? asked : `/${asked}`,
    secure: scheme === "HTTPS",
    headers,
    timeoutMs,
  };
}

/** RFC 9110 §5.1 and §5.5. */
function isHeader(name: string, value: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
  return /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) && !/[\u0000-\u0008\u000a-\u001f\u007f]/.test(value);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
