import { z } from "zod";
import { type Hostname, type Ip, isHttp, isTls, parseHostname, parseIp } from "../../values/index.ts";
import type { AdvisedObject } from "../kinds.ts";
import {
  anyCaseLabel,
  flag,
  ip,
  isDnsLabel,
  type Path,
  parsed,
  portNumber,
  protocol,
  type Report,
  repeats,
  rule,
  text,
  textMap,
} from "../schema.ts";
import { wordAnnotation } from "./annotation.ts";

/** `namespace/host`: `.` is the Gateway's own namespace, `*` (also when none is written) any. */
export interface GatewayHost {
  readonly namespace: string;
  readonly host: Hostname | Ip | "*";
}

export function parseGatewayHost(written: string): GatewayHost | undefined {
  const [first, second, ...rest] = written.split("/");
  const [namespace, name] = second === undefined ? ["*", first!] : [first!, second];
  if (rest.length > 0 || !(namespace === "*" || namespace === "." || isDnsLabel(namespace))) return undefined;
  if (name === "*") return { namespace, host: "*" };
  const host = parseIp(name) ?? parseHostname(name);
  // A short name could mean a host of any namespace.
  return host?.match(/[.:]/) ? { namespace, host } : undefined;
}

const tlsVersion = z.enum(["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]);

const serverTls = z.strictObject({
  httpsRedirect: flag.default(false),
  mode: z
    .enum(["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"])
    .default("PASSTHROUGH"),
  serverCertificate: text.optional(),
  privateKey: text.optional(),
  caCertificates: text.optional(),
  caCrl: text.optional(),
  credentialName: text.optional(),
  credentialNames: z.array(text).default([]),
  tlsCertificates: z
    .array(
      z.strictObject({
        serverCertificate: text.optional(),
        privateKey: text.optional(),
        caCertificates: text.optional(),
      }),
    )
    .default([]),
  subjectAltNames: z.array(text).default([]),
  verifyCertificateSpki: z.array(text).default([]),
  verifyCertificateHash: z.array(text).default([]),
  minProtocolVersion: tlsVersion.default("TLS_AUTO"),
  maxProtocolVersion: tlsVersion.default("TLS_AUTO"),
  cipherSuites: z.array(text).default([]),
});

const serverFields = z.strictObject({
  name: text.optional(),
  port: z.strictObject({ number: portNumber, protocol, name: anyCaseLabel, targetPort: portNumber.optional() }),
  hosts: z.array(parsed('a host such as "*.example.com", "namespace/host" or "*"', "ISM0306", parseGatewayHost)).min(1),
  tls: serverTls.optional(),
  bind: ip.optional(),
  defaultEndpoint: text.optional(),
});

type Server = z.output<typeof serverFields>;

const server = rule(serverFields, ["port", "tls"], judgeServer);

function judgeServer({ port, tls }: Server, report: Report): void {
  if (isTls(port.protocol) && !tls)
    report(
      [],
      "ISM0702",
      `port "${port.name}" is ${port.protocol.toUpperCase()} and needs tls; write "tls: {mode: …}"`,
    );
  if (!tls) return;
  if (isHttp(port.protocol)) {
    const other = Object.entries(tls).find(([key, value]) => key !== "httpsRedirect" && !isDefault(key, value));
    if (other)
      report(
        ["tls", other[0]],
        "ISM0703",
        "has no effect on a plain HTTP port, which takes httpsRedirect only; write protocol HTTPS",
      );
    return;
  }
  if (!isTls(port.protocol))
    report(["tls"], "ISM0703", `has no effect on a ${port.protocol.toUpperCase()} port; write protocol TLS`);
  else judgeServerTls(tls, report);
}

const tlsDefaults: Readonly<Record<string, string>> = {
  mode: "PASSTHROUGH",
  minProtocolVersion: "TLS_AUTO",
  maxProtocolVersion: "TLS_AUTO",
};

function isDefault(key: string, value: unknown): boolean {
  return value === undefined || value === tlsDefaults[key] || (Array.isArray(value) && value.length === 0);
}

function judgeServerTls(tls: NonNullable<Server["tls"]>, report: Report): void {
  const path = (key: string): Path => ["tls", key];
  const named = tls.credentialName !== undefined || tls.credentialNames.length > 0 || tls.tlsCertificates.length > 0;
  const files = (["serverCertificate", "privateKey", "caCertificates"] as const).filter(
    (key) => tls[key] !== undefined,
  );
  if (tls.mode === "ISTIO_MUTUAL") {
    for (const key of files)
      report(path(key), "ISM0705", "must not stand with mode ISTIO_MUTUAL: the gateway's own certificate is used");
    if (tls.credentialName !== undefined)
      report(
        path("credentialName"),
        "ISM0705",
        "must not stand with mode ISTIO_MUTUAL: the gateway's own certificate is used",
      );
  }
  if (tls.mode === "SIMPLE" || tls.mode === "MUTUAL" || tls.mode === "OPTIONAL_MUTUAL") {
    const needed =
      tls.mode === "SIMPLE"
        ? (["serverCertificate", "privateKey"] as const)
        : (["serverCertificate", "privateKey", "caCertificates"] as const);
    for (const key of needed)
      if (!named && !tls[key])
        report(path(key), "ISM0704", `is required with mode ${tls.mode}, or credentialName in its place`);
  }
  judgeParameters(tls, report);
  const [lowest, highest] = [versions.indexOf(tls.minProtocolVersion), versions.indexOf(tls.maxProtocolVersion)];
  if (lowest > 0 && highest > 0 && lowest > highest)
    report(
      path("minProtocolVersion"),
      "ISM0706",
      `${tls.minProtocolVersion} is above the highest version ${tls.maxProtocolVersion}`,
    );
}

const versions = tlsVersion.options;

/** The cipher suites of TLS 1.2 that both data planes speak, by OpenSSL's names. Those of 1.3 are not chosen between. */
const cipherSuites: ReadonlySet<string> = new Set([
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
  "ECDHE-ECDSA-AES128-SHA",
  "ECDHE-RSA-AES128-SHA",
  "ECDHE-ECDSA-AES256-SHA",
  "ECDHE-RSA-AES256-SHA",
  "AES128-GCM-SHA256",
  "AES256-GCM-SHA384",
  "AES128-SHA",
  "AES256-SHA",
]);

function judgeParameters(tls: NonNullable<Server["tls"]>, report: Report): void {
  for (const [index, suite] of tls.cipherSuites.entries())
    if (!cipherSuites.has(suite))
      report(
        ["tls", "cipherSuites", index],
        "ISM0707",
        `must be one of ${[...cipherSuites].join(", ")}, got "${suite.slice(0, 100)}"`,
      );
  for (const [index, hash] of tls.verifyCertificateHash.entries())
    if (!/^([0-9a-f]{2}:?){31}[0-9a-f]{2}$/i.test(hash))
      report(["tls", "verifyCertificateHash", index], "ISM0708", "must be 64 hexadecimal digits, perhaps with colons");
  for (const [index, hash] of tls.verifyCertificateSpki.entries())
    if (!/^[A-Za-z0-9+/]{43}=$/.test(hash))
      report(["tls", "verifyCertificateSpki", index], "ISM0708", "must be the base64 of 32 bytes");
  for (const key of ["minProtocolVersion", "maxProtocolVersion"] as const)
    if (tls[key] === "TLSV1_0" || tls[key] === "TLSV1_1")
      report(["tls", key], "ISM0723", `${tls[key]} is not spoken any more (RFC 8996); TLSV1_2 takes its place`);
}

const fields = z.strictObject({ selector: textMap.default({}), servers: z.array(server).min(1) });

const spec = rule(fields, ["servers", "selector"], ({ servers, selector }, report) => {
  for (const { index } of repeats(servers, ({ port }) => port.name))
    report(
      ["servers", index, "port", "name"],
      "ISM0701",
      `another server has the port name "${servers[index]!.port.name}"; names must differ`,
    );
  if (Object.keys(selector).length === 0)
    report(
      ["selector"],
      "ISM0722",
      "should name the gateway's workloads: without, the Gateway applies to every one of them",
    );
});

/**
 * Whether a balancer in front of the gateway says by the PROXY protocol who called: always, or sometimes. It holds for the
 * ports of the Gateway; whoever can reach such a port can say so of itself, so it is for ports behind a balancer alone.
 */
export const proxyProtocol = wordAnnotation("networking.isthmus.dev/proxy-protocol", ["require", "accept"]);

export const gateway = z.object({ spec, status: z.unknown().optional() });

/** The mesh's own namespaces, whose Gateways are not the user's. */
const ownNamespaces: ReadonlySet<string> = new Set(["isthmus-system", "istio-system"]);

/** Port 15443 belongs to the traffic between clusters, and the mesh sets it up by itself. */
export function adviseGateway({ metadata, spec }: AdvisedObject, report: Report): void {
  if (ownNamespaces.has(metadata.namespace)) return;
  for (const [index, { port }] of (spec as z.output<typeof fields>).servers.entries())
    if (port.number === 15443)
      report(
        ["spec", "servers", index, "port", "number"],
        "ISM0721",
        "a Gateway on port 15443 is not needed: the mesh passes traffic between clusters there by itself; delete this server",
      );
}
