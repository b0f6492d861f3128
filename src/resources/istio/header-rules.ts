import { type Path, quoted, type Report } from "../schema.ts";
import type { HttpRuleFields } from "./virtual-service.ts";

/** RFC 9110 §5.6.2, with the colon that begins HTTP/2's own header fields. */
const headerName = /^:?[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** What says where a message ends and who may read it: the proxies' own affair. */
const framing: ReadonlySet<string> = new Set([
  "content-length",
  "transfer-encoding",
  "connection",
  "keep-alive",
  "upgrade",
  "te",
  "trailer",
]);

/** What `%NAME%` in a value may stand for: what both data planes know. */
const operators: ReadonlySet<string> = new Set([
  "REQ",
  "RESP",
  "START_TIME",
  "PROTOCOL",
  "RESPONSE_CODE",
  "ROUTE_NAME",
  "REQUESTED_SERVER_NAME",
  "UPSTREAM_CLUSTER",
  "UPSTREAM_HOST",
  "DOWNSTREAM_REMOTE_ADDRESS",
  "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
  "DOWNSTREAM_LOCAL_ADDRESS",
  "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_LOCAL_PORT",
  "DOWNSTREAM_PEER_URI_SAN",
  "DOWNSTREAM_PEER_SUBJECT",
  "DOWNSTREAM_LOCAL_URI_SAN",
  "DOWNSTREAM_TLS_VERSION",
]);

export function judgeHeaderName(name: string, path: Path, report: Report): void {
  if (!headerName.test(name)) report(path, "ISM0514", `${quoted(name)} is not the name of a header`);
}

/** Whether what a rule or a destination does to headers can be done. */
export function judgeHeaders(headers: HttpRuleFields["headers"], path: Path, report: Report): void {
  for (const side of ["request", "response"] as const) {
    const change = headers?.[side];
    if (!change) continue;
    for (const verb of ["set", "add"] as const)
      for (const [name, value] of Object.entries(change[verb])) {
        const at = [...path, side, verb, name];
        judgeHeaderName(name, at, report);
        judgeChange(name, { at, mayBeHost: side === "request" && verb === "set" }, report);
        judgeValue(value, at, report);
      }
    for (const [index, name] of change.remove.entries()) {
      const at = [...path, side, "remove", index];
      judgeHeaderName(name, at, report);
      judgeChange(name, { at, mayBeHost: false }, report);
    }
  }
}

function judgeChange(
  name: string,
  { at, mayBeHost }: { readonly at: Path; readonly mayBeHost: boolean },
  report: Report,
): void {
  const lower = name.toLowerCase();
  if (framing.has(lower)) report(at, "ISM0509", `${quoted(name)} is written by the proxies themselves`);
  else if (lower === "host" || lower === ":authority") {
    if (!mayBeHost) report(at, "ISM0509", `${quoted(name)} can only be set, and only in the request`);
  } else if (lower.startsWith(":")) report(at, "ISM0509", `${quoted(name)} is no header; see rewrite`);
}

function judgeValue(value: string, at: Path, report: Report): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the very characters that a value may not hold.
  if (/[\u0000-\u0008\u000a-\u001f\u007f]/.test(value)) report(at, "ISM0509", "holds control characters");
  for (const [written, name] of value.matchAll(/%%|%([A-Z][A-Z0-9_]*)(?:\([^)]*\))?(?::\d+)?%/g))
    if (name !== undefined && !operators.has(name))
      report(
        at,
        "ISM0509",
        `${quoted(written)} stands for nothing; known are ${[...operators].join(", ")}, and a percent sign is written "%%"`,
      );
}
