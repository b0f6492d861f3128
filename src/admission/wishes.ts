import type { LogLevel } from "../base/index.ts";
import { isPortNumber, type Labels, parseCidr } from "../values/index.ts";
import type { Json } from "./pod.ts";
import { readProxyConfig } from "./proxy-config.ts";
import { isQuantity, quantityValue } from "./quantity.ts";
import type { CaptureSettings, DataPlane, InjectionSettings, Resources } from "./settings.ts";
import { shown } from "./shape.ts";

/** What is put into one pod: the settings, and over them what its annotations ask for. */
export interface PodWishes {
  readonly dataPlane: DataPlane;
  /** Undefined for the one of the settings. */
  readonly image: string | undefined;
  readonly logLevel: LogLevel;
  readonly concurrency: number;
  readonly holdApplication: boolean;
  readonly rewriteProbes: boolean;
  /** Undefined to go by the settings. */
  readonly nativeSidecar: boolean | undefined;
  readonly interception: "REDIRECT" | "NONE";
  readonly dnsCapture: boolean;
  /** 0 for no status server: probes are then not rewritten. */
  readonly statusPort: number;
  readonly capture: PodCapture;
  readonly resources: Resources;
  readonly readiness: {
    readonly initialDelaySeconds: number;
    readonly periodSeconds: number;
    readonly failureThreshold: number;
  };
  readonly drainSeconds: number;
  readonly env: Readonly<Record<string, string>>;
  readonly volumes: readonly Json[];
  readonly mounts: readonly Json[];
}

export interface PodCapture extends CaptureSettings {
  /** `*`, or these ports alone. */
  readonly includeInboundPorts: readonly ("*" | number)[];
  /** Ports that are captured whatever range they are in. */
  readonly includeOutboundPorts: readonly number[];
  /** Interfaces of virtual machines: what comes in by them is on its way out. */
  readonly interfaces: readonly string[];
}

export type WishesReading =
  | { readonly outcome: "good"; readonly wishes: PodWishes; readonly warnings: readonly string[] }
  | { readonly outcome: "wrong"; readonly problems: readonly string[] };

const traffic = "traffic.sidecar.istio.io/";
const sidecar = "sidecar.istio.io/";
const readinessPrefix = "readiness.status.sidecar.istio.io/";

/** Everything that a pod's annotations ask of its proxy, or all that is wrong with them. */
export function readWishes(annotations: Labels, settings: InjectionSettings): WishesReading {
  const problems: string[] = [];
  const warnings: string[] = [];
  const known = new Set<string>();
  const at = (name: string) => `metadata.annotations[${JSON.stringify(name)}]`;
  /** What `parse` makes of an annotation; `fallback` where it is absent, or makes nothing of it, which is a problem. */
  function read<T>(name: string, fallback: T, article: string, parse: (written: string) => T | undefined): T {
    known.add(name);
    const written = Object.hasOwn(annotations, name) ? annotations[name]!.trim() : undefined;
    if (written === undefined) return fallback;
    const value = parse(written);
    if (value !== undefined) return value;
    problems.push(`${at(name)}: must be ${article}, got ${shown(written)}`);
    return fallback;
  }
  const flag = (name: string, fallback: boolean) => read(name, fallback, '"true" or "false"', parseFlag);
  const amount = (name: string) =>
    read<string | undefined>(name, undefined, 'an amount such as "100m" or "128Mi"', (text) =>
      isQuantity(text) ? text : undefined,
    );
  const ports = (name: string, fallback: readonly number[]) =>
    read(name, fallback, 'ports with commas between, such as "3306,6379"', parsePorts);
  const ranges = (name: string, fallback: readonly string[]) =>
    read(name, fallback, 'ranges with commas between, such as "10.0.0.0/8,192.168.1.7"', parseRanges);
  const seconds = (name: string, fallback: number) =>
    read(readinessPrefix + name, fallback, "a whole number of at most 1000000", (text) =>
      parseWhole(text, 0, 1_000_000),
    );

  const config = readProxyConfig(
    read<string | undefined>("proxy.istio.io/config", undefined, "", (text) => text),
    {
      problem: (path, why) => problems.push(`${at("proxy.istio.io/config")}${path}: ${why}`),
      warning: (path, why) => warnings.push(`${at("proxy.istio.io/config")}${path}: ${why}`),
    },
  );
  const { ISTIO_META_DNS_CAPTURE: dns, ...env } = config.env;
  const wishes: PodWishes = {
    dataPlane: read<DataPlane>("sidecar.isthmus.dev/data-plane", settings.dataPlane, '"embedded" or "envoy"', (text) =>
      text === "embedded" || text === "envoy" ? text : undefined,
    ),
    image: read<string | undefined>(
      `${sidecar}proxyImage`,
      undefined,
      "a reference of an image, without spaces",
      (text) => (/^[^\s]+$/.test(text) ? text : undefined),
    ),
    logLevel: read(
      `${sidecar}logLevel`,
      settings.proxyLogLevel,
      `one of ${Object.keys(logWords).join(", ")}`,
      (text) => logWords[text],
    ),
    concurrency: config.concurrency ?? settings.concurrency,
    holdApplication: config.holdApplication ?? settings.holdApplication,
    rewriteProbes: flag(`${sidecar}rewriteAppHTTPProbers`, settings.rewriteProbes),
    nativeSidecar: read<boolean | undefined>(`${sidecar}nativeSidecar`, undefined, '"true" or "false"', parseFlag),
    interception: read<"REDIRECT" | "NONE">(
      `${sidecar}interceptionMode`,
      "REDIRECT",
      '"REDIRECT" or "NONE" (TPROXY is not there)',
      (text) => (text === "REDIRECT" || text === "NONE" ? text : undefined),
    ),
    dnsCapture: dns === undefined ? settings.dnsCapture : dns === "true",
    statusPort: read("status.sidecar.istio.io/port", 15020, "a port, or 0 for none", (text) =>
      parseWhole(text, 0, 65535),
    ),
    capture: {
      includeOutboundIPRanges: read(
        `${traffic}includeOutboundIPRanges`,
        settings.capture.includeOutboundIPRanges,
        '"*", or ranges with commas between, such as "10.0.0.0/8"',
        (text) => (text === "*" ? ["*"] : parseRanges(text)),
      ),
      excludeOutboundIPRanges: ranges(`${traffic}excludeOutboundIPRanges`, settings.capture.excludeOutboundIPRanges),
      includeOutboundPorts: ports(`${traffic}includeOutboundPorts`, []),
      excludeOutboundPorts: ports(`${traffic}excludeOutboundPorts`, settings.capture.excludeOutboundPorts),
      includeInboundPorts: read<readonly ("*" | number)[]>(
        `${traffic}includeInboundPorts`,
        ["*"],
        '"*", or ports with commas between, such as "8080,9090"',
        (text) => (text === "*" ? ["*"] : parsePorts(text)),
      ),
      // Those of the settings hold for every pod; a pod adds its own.
      excludeInboundPorts: [
        ...new Set([...settings.capture.excludeInboundPorts, ...ports(`${traffic}excludeInboundPorts`, [])]),
      ],
      interfaces: read(
        `${traffic}kubevirtInterfaces`,
        [],
        'interfaces with commas between, such as "net1"',
        parseInterfaces,
      ),
    },
    resources: resourcesFrom({
      requests: { cpu: amount(`${sidecar}proxyCPU`), memory: amount(`${sidecar}proxyMemory`) },
      limits: { cpu: amount(`${sidecar}proxyCPULimit`), memory: amount(`${sidecar}proxyMemoryLimit`) },
      settings,
      complain: (resource, limit, request) => {
        const name = resource === "cpu" ? "proxyCPU" : "proxyMemory";
        problems.push(
          `${at(sidecar + name)}: asks for ${request}, above the limit of ${limit}; raise ${sidecar}${name}Limit`,
        );
      },
    }),
    readiness: {
      initialDelaySeconds: seconds("initialDelaySeconds", 1),
      periodSeconds: Math.max(1, seconds("periodSeconds", 2)),
      failureThreshold: Math.max(1, seconds("failureThreshold", 30)),
    },
    drainSeconds: config.drainSeconds ?? settings.drainSeconds,
    env: { ...settings.env, ...env },
    volumes: readObjects(`${sidecar}userVolume`, '{"my-volume": {"emptyDir": {}}}'),
    mounts: readObjects(`${sidecar}userVolumeMount`, '{"my-volume": {"mountPath": "/etc/mine"}}'),
  };
  for (const name of Object.keys(annotations))
    if (
      (name.startsWith(traffic) || name.startsWith(readinessPrefix) || name.startsWith(sidecar)) &&
      !known.has(name) &&
      !ours.has(name)
    )
      warnings.push(`${at(name)}: is not read; it changes nothing`);
  return problems.length > 0 ? { outcome: "wrong", problems } : { outcome: "good", wishes, warnings };

  /** Istio writes both as one object by name, which is here given as `name` of each. */
  function readObjects(name: string, example: string): readonly Json[] {
    return read<readonly Json[]>(name, [], `a JSON object of objects such as ${example}`, (text) => {
      try {
        const written = JSON.parse(text) as Record<string, unknown>;
        if (typeof written !== "object" || written === null || Array.isArray(written)) return undefined;
        const entries = Object.entries(written);
        const fit = entries.every(([, value]) => typeof value === "object" && value !== null && !Array.isArray(value));
        return fit ? entries.map(([key, value]) => ({ ...(value as Json), name: key })) : undefined;
      } catch {
        return undefined;
      }
    });
  }
}

/** Annotations of that name that others read, or that injection itself writes. */
const ours: ReadonlySet<string> = new Set([`${sidecar}inject`, `${sidecar}status`, `${sidecar}rewriteAppHTTPProbers`]);

/** Envoy's words and ours, to ours. */
const logWords: Readonly<Record<string, LogLevel>> = {
  trace: "debug",
  debug: "debug",
  info: "info",
  warning: "warn",
  warn: "warn",
  error: "error",
  critical: "error",
  off: "silent",
  silent: "silent",
};

function parseFlag(text: string): boolean | undefined {
  return text === "true" ? true : text === "false" ? false : undefined;
}

function parseWhole(text: string, min: number, max: number): number | undefined {
  const number = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  return number >= min && number <= max ? number : undefined;
}

const split = (text: string) =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);

function parsePorts(text: string): readonly number[] | undefined {
  const ports = split(text).map((part) => (/^\d{1,5}$/.test(part) ? Number(part) : Number.NaN));
  return ports.every(isPortNumber) ? ports : undefined;
}

function parseRanges(text: string): readonly string[] | undefined {
  const ranges = split(text);
  return ranges.every((range) => parseCidr(range) !== undefined) ? ranges : undefined;
}

/** Names as the kernel allows them. */
function parseInterfaces(text: string): readonly string[] | undefined {
  const names = split(text);
  return names.every((name) => /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/.test(name)) ? names : undefined;
}

/** An annotation about resources puts all of them in place of the settings', as the limits of these may not fit its requests. */
function resourcesFrom(parts: {
  readonly requests: Readonly<Record<"cpu" | "memory", string | undefined>>;
  readonly limits: Readonly<Record<"cpu" | "memory", string | undefined>>;
  readonly settings: InjectionSettings;
  readonly complain: (resource: "cpu" | "memory", limit: string, request: string) => void;
}): Resources {
  const { requests, limits, settings, complain } = parts;
  const written = (of: Readonly<Record<string, string | undefined>>) =>
    Object.fromEntries(Object.entries(of).filter((entry): entry is [string, string] => entry[1] !== undefined));
  const own: Resources = { requests: written(requests), limits: written(limits) };
  if (Object.keys(own.requests).length + Object.keys(own.limits).length === 0) return settings.resources.proxy;
  for (const resource of ["cpu", "memory"] as const) {
    const [request, limit] = [requests[resource], limits[resource]];
    if (request === undefined || limit === undefined) continue;
    if (quantityValue(request)! > quantityValue(limit)!) complain(resource, limit, request);
  }
  return own;
}
