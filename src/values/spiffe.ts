declare const brand: unique symbol;

/** `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`: who a workload is. Made only by the functions here. */
export type SpiffeId = string & { readonly [brand]: "SpiffeId" };

export interface SpiffeParts {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

// SPIFFE-ID §2: lower-case trust domain; path segments of letters, digits, dot, dash, underscore, none "." or "..".
const form = /^spiffe:\/\/([a-z0-9._-]{1,255})\/ns\/([a-zA-Z0-9._-]+)\/sa\/([a-zA-Z0-9._-]+)$/;
const longest = 2048;

export function parseSpiffeId(text: string): SpiffeId | undefined {
  return spiffeParts(text) === undefined ? undefined : (text as SpiffeId);
}

/** The parts of an identity; undefined when `text` is none. */
export function spiffeParts(text: string): SpiffeParts | undefined {
  const match = text.length <= longest ? form.exec(text) : null;
  if (!match) return undefined;
  const [, trustDomain, namespace, serviceAccount] = match as unknown as [string, string, string, string];
  const dots = (segment: string) => segment === "." || segment === "..";
  return dots(namespace) || dots(serviceAccount) ? undefined : { trustDomain, namespace, serviceAccount };
}

/** Throws on parts that do not make an identity: they must have been checked where they came in. */
export function spiffeId(parts: SpiffeParts): SpiffeId {
  const id = parseSpiffeId(`spiffe://${parts.trustDomain}/ns/${parts.namespace}/sa/${parts.serviceAccount}`);
  if (!id) throw new Error(`BUG: not a workload identity: ${JSON.stringify(parts)}`);
  return id;
}
