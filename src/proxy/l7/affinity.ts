import type { HashPolicy } from "../config/route.ts";
import { allHeaderValues, type Headers } from "./headers.ts";
import type { RequestHead } from "./message.ts";
import { queryOf, requestField } from "./route-match.ts";

/** What a request is hashed to, and the cookie that its caller gets so that the next ones are hashed alike. */
export interface Affinity {
  /** 32 bits; undefined when nothing that is hashed is there. */
  readonly hash: number | undefined;
  readonly setCookie: string | undefined;
}

export function affinityOf(
  policies: readonly HashPolicy[],
  from: { readonly request: RequestHead; readonly remoteIp: string; readonly random: () => number },
): Affinity {
  const { request, remoteIp, random } = from;
  let hash: number | undefined;
  let setCookie: string | undefined;
  for (const policy of policies) {
    let value: string | undefined;
    switch (policy.kind) {
      case "header":
        value = requestField(request, "", policy.name);
        break;
      case "query":
        value = queryOf(request.path).get(policy.name) ?? undefined;
        break;
      case "cookie":
        value = cookie(request.headers, policy.name);
        if (value === undefined && policy.make) {
          value = Math.floor(random() * 2 ** 48)
            .toString(16)
            .padStart(12, "0");
          setCookie = madeCookie(policy.name, { value, ...policy.make });
        }
        break;
      case "source-ip":
        value = remoteIp;
        break;
    }
    if (value === undefined) continue;
    hash = fnv1a(value, hash ?? 0x811c9dc5);
    if (policy.terminal) break;
  }
  return { hash, setCookie };
}

/** RFC 6265 §4.1. Without an age it ends with the session. */
function madeCookie(
  name: string,
  { value, path, maxAgeS }: { readonly value: string; readonly path: string; readonly maxAgeS: number },
): string {
  const age = maxAgeS > 0 ? `; Max-Age=${maxAgeS}` : "";
  return `${name}="${value}"${age}${path === "" ? "" : `; Path=${path}`}; HttpOnly`;
}

/** RFC 6265 §5.2: quotes around a value are no part of it for us, as we write them and browsers send them back. */
function cookie(headers: Headers, name: string): string | undefined {
  for (const part of (allHeaderValues(headers, "cookie") ?? "").split(/[;,]/)) {
    const at = part.indexOf("=");
    if (at > 0 && part.slice(0, at).trim() === name)
      return part
        .slice(at + 1)
        .trim()
        .replace(/^"(.*)"$/, "$1");
  }
  return undefined;
}

function fnv1a(text: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
