import type { Node } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import {
  type Ip,
  isPortNumber,
  type Labels,
  type Locality,
  nowhere,
  parseIp,
  type SpiffeId,
  spiffeParts,
} from "../values/index.ts";

/** How traffic reaches the proxy: redirected by the kernel, or sent to it by applications that know of it. */
export type Interception =
  | { readonly mode: "redirect" }
  | {
      readonly mode: "none";
      /** Listening port to application port. */
      readonly appPorts: Readonly<Record<number, number>>;
      /** Port of the explicit HTTP and SOCKS proxy on 127.0.0.1, if it is wanted. */
      readonly explicitPort: number | undefined;
    };

/** Who is asking for configuration, and what it said of itself. */
export interface ProxyNode {
  readonly id: string;
  readonly role: "sidecar" | "router";
  /** How the proxy takes its configuration; `grpc` is a gRPC client without a proxy. */
  readonly generator: "envoy" | "grpc";
  readonly name: string;
  readonly namespace: string;
  readonly identity: SpiffeId | undefined;
  readonly ips: readonly Ip[];
  readonly labels: Labels;
  readonly locality: Locality;
  readonly cluster: string;
  readonly network: string;
  /** Networks whose endpoints it wants to see instead of the usual ones; empty for most. */
  readonly networkView: readonly string[];
  readonly interception: Interception;
}

export type NodeRead =
  | { readonly ok: true; readonly node: ProxyNode }
  | { readonly ok: false; readonly reason: string };

const longestId = 1024;
const refuse = (reason: string): NodeRead => ({ ok: false, reason });

/** An untrusted node message to a `ProxyNode`. With an identity, the node may only be of that identity's namespace. */
export function readNode(message: Node | undefined, identity?: SpiffeId): NodeRead {
  if (!message) return refuse("the first request carries no node");
  if (message.id.length > longestId) return refuse(`the node id is longer than ${longestId} characters`);
  const metadata: Readonly<Record<string, unknown>> = message.metadata ?? {};
  const text = (key: string): string => {
    const value = Object.hasOwn(metadata, key) ? metadata[key] : undefined;
    return typeof value === "string" ? value : typeof value === "boolean" ? String(value) : "";
  };
  const generator = text("GENERATOR") === "grpc" ? "grpc" : "envoy";
  const parts = message.id.split("~");
  const [type, idIp, fullName, domain] = parts;
  if (parts.length !== 4 || type === undefined || idIp === undefined || fullName === undefined || domain === undefined)
    return refuse(`node id "${message.id}" is not "<type>~<ip>~<name>.<namespace>~<domain>"`);
  if (type !== "sidecar" && type !== "router")
    return refuse(`node id "${message.id}" begins with "${type}", which is neither "sidecar" nor "router"`);
  const dot = fullName.lastIndexOf(".");
  const name = dot === -1 ? fullName : fullName.slice(0, dot);
  const namespace = text("NAMESPACE") || (dot === -1 ? (domain.split(".")[0] ?? "") : fullName.slice(dot + 1));
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(namespace))
    return refuse(`namespace "${namespace}" of node "${message.id}" is no namespace`);
  if (identity) {
    const owner = spiffeParts(identity);
    if (owner?.namespace !== namespace)
      return refuse(`node "${message.id}" is of namespace "${namespace}", its certificate "${identity}" is not`);
  }
  const listed = (text("INSTANCE_IPS") || idIp).split(",");
  const ips: Ip[] = [];
  for (const one of listed) {
    const ip = parseIp(one.trim());
    if (ip) ips.push(ip);
  }
  if (ips.length === 0) return refuse(`node "${message.id}" has no valid address in its id or INSTANCE_IPS`);
  const interception = readInterception(text);
  if (typeof interception === "string") return refuse(interception);
  return {
    ok: true,
    node: Object.freeze({
      id: message.id,
      role: type,
      generator,
      name,
      namespace,
      identity,
      ips: Object.freeze(ips),
      labels: readLabels(metadata["LABELS"]),
      locality: readLocality(message),
      cluster: text("CLUSTER_ID"),
      network: text("NETWORK"),
      networkView: Object.freeze(
        text("REQUESTED_NETWORK_VIEW")
          .split(",")
          .map((one) => one.trim())
          .filter((one) => one !== ""),
      ),
      interception,
    } satisfies ProxyNode),
  };
}

function readInterception(text: (key: string) => string): Interception | string {
  const mode = text("INTERCEPTION_MODE");
  if (mode === "" || mode === "REDIRECT") return { mode: "redirect" };
  if (mode !== "NONE") return `INTERCEPTION_MODE "${mode}" is neither "REDIRECT" nor "NONE"`;
  const appPorts: Record<number, number> = {};
  const written = text("APP_PORTS");
  if (written !== "") {
    let parsed: unknown;
    try {
      parsed = JSON.parse(written);
    } catch {
      // Anything else than JSON is the caller's mistake, and is told so below.
    }
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
      return `APP_PORTS "${written.slice(0, 100)}" is no JSON object of listening port to application port`;
    for (const [listen, app] of Object.entries(parsed)) {
      const from = Number(listen);
      const to = Number(app);
      if (!isPortNumber(from) || !isPortNumber(to))
        return `APP_PORTS says "${listen}": ${JSON.stringify(app)}, which are not two ports`;
      appPorts[from] = to;
    }
  }
  const explicit = text("EXPLICIT_PORT");
  if (explicit !== "" && !isPortNumber(Number(explicit))) return `EXPLICIT_PORT "${explicit}" is no port`;
  return { mode: "none", appPorts, explicitPort: explicit === "" ? undefined : Number(explicit) };
}

const mostLabels = 256;

function readLabels(value: unknown): Labels {
  const labels: Record<string, string> = Object.create(null) as Record<string, string>;
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    for (const [key, text] of Object.entries(value).slice(0, mostLabels))
      if (typeof text === "string") labels[key] = text;
  }
  return Object.freeze(labels);
}

function readLocality(message: Node): Locality {
  const { region = "", zone = "", subZone = "" } = message.locality ?? {};
  return region === "" && zone === "" && subZone === "" ? nowhere : Object.freeze({ region, zone, subzone: subZone });
}
