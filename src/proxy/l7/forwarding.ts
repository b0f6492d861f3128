import { randomUUID } from "node:crypto";
import type { HttpManager } from "../config/http-manager.ts";
import type { Connection } from "../l4/connection.ts";
import { type Headers, headerValue, removeHeader, setHeader } from "./headers.ts";

/** What a connection adds to every request that comes on it; worked out once. */
export interface Forwarding {
  readonly scheme: "http" | "https";
  /** This hop's element of x-forwarded-client-cert; undefined when the client showed no certificate. */
  readonly certificate: string | undefined;
}

export function forwardingOf(connection: Connection, manager: HttpManager): Forwarding {
  return { scheme: connection.tls ? "https" : "http", certificate: certificateElement(connection, manager) };
}

/** `By=…;Hash=…;Subject="…";URI=…;DNS=…`, in Envoy's order. */
function certificateElement({ tls }: Connection, { clientCertificate: wanted }: HttpManager): string | undefined {
  const peer = tls?.peer;
  if (!tls || !peer) return undefined;
  const parts = tls.localUris.map((uri) => `By=${quoted(uri)}`);
  parts.push(`Hash=${peer.sha256}`);
  if (wanted.subject) parts.push(`Subject="${peer.subject.replace(/[\\"]/g, "\\$&")}"`);
  if (wanted.uri) parts.push(...peer.uris.map((uri) => `URI=${quoted(uri)}`));
  if (wanted.dns) parts.push(...peer.dnsNames.map((name) => `DNS=${quoted(name)}`));
  return parts.map((part) => part.replace(/[^\x20-\x7e]/g, "?")).join(";");
}

// What separates fields and elements must not come out of a certificate.
const quoted = (value: string) => (/[,;="\\]/.test(value) ? `"${value.replace(/[\\"]/g, "\\$&")}"` : value);

const certificateHeader = "x-forwarded-client-cert";

/** Makes the trust headers of a request true, in place: what a stranger may not claim is taken out or written anew. */
export function forwardHeaders(
  headers: Headers,
  connection: Connection,
  manager: HttpManager,
  forwarding: Forwarding,
): void {
  const edge = manager.useRemoteAddress;
  let certificates = 0;
  let proto: string | undefined;
  let requestId = false;
  let strange = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (name.charCodeAt(0) !== 120) continue;
    if (name === certificateHeader) certificates++;
    else if (name === "x-forwarded-proto") proto = headers[i + 1];
    else if (name === "x-request-id") requestId = true;
    else if (name.startsWith("x-envoy-") || name.startsWith("x-b3-")) strange = true;
  }
  if (edge && strange) {
    for (let i = headers.length - 2; i >= 0; i -= 2) if (/^x-(?:envoy|b3)-/.test(headers[i]!)) headers.splice(i, 2);
  }
  clientCertificate(headers, manager, forwarding, certificates > 0);
  if (edge || (proto !== "http" && proto !== "https")) setHeader(headers, "x-forwarded-proto", forwarding.scheme);
  if (edge && !manager.skipXffAppend) {
    const before = headerValue(headers, "x-forwarded-for");
    setHeader(headers, "x-forwarded-for", before ? `${before},${connection.remote.ip}` : connection.remote.ip);
  }
  if (requestId && edge && !manager.requestId.preserveExternal) {
    removeHeader(headers, "x-request-id");
    requestId = false;
  }
  if (!requestId && manager.requestId.generate) headers.push("x-request-id", randomUUID());
}

function clientCertificate(headers: Headers, manager: HttpManager, forwarding: Forwarding, there: boolean): void {
  const { mode } = manager.clientCertificate;
  const own = forwarding.certificate;
  if (mode === "always-forward-only") return;
  // Without a verified certificate nobody vouches for what the client says of earlier hops.
  if (own === undefined || mode === "sanitize") {
    if (there) removeHeader(headers, certificateHeader);
    return;
  }
  if (mode === "forward-only") return;
  if (mode === "sanitize-set" || !there) {
    if (there) removeHeader(headers, certificateHeader);
    headers.push(certificateHeader, own);
    return;
  }
  let before = "";
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === certificateHeader) before += `${headers[i + 1]},`;
  setHeader(headers, certificateHeader, before + own);
}
