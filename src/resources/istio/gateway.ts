import { z } from "zod";
import { type Hostname, type Ip, parseHostname, parseIp } from "../../values/index.ts";
import { flag, ip, isDnsLabel, parsed, portNumber, protocol, text, textMap } from "../schema.ts";

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

const server = z.strictObject({
  name: text.optional(),
  port: z.strictObject({ number: portNumber, protocol, name: text, targetPort: portNumber.optional() }),
  hosts: z.array(parsed('a host such as "*.example.com", "namespace/host" or "*"', "ISM0306", parseGatewayHost)).min(1),
  tls: serverTls.optional(),
  bind: ip.optional(),
  defaultEndpoint: text.optional(),
});

const spec = z.strictObject({ selector: textMap.default({}), servers: z.array(server).min(1) });

export const gateway = z.object({ spec, status: z.unknown().optional() });
