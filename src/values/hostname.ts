declare const brand: unique symbol;

/**
 * A DNS name as configuration writes it: lower case, no trailing dot, at most 253 characters in labels of at most 63
 * (RFC 1123 §2.1), perhaps with `*` as its whole first label. Made only by `parseHostname`.
 */
export type Hostname = string & { readonly [brand]: "Hostname" };

const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

/** Text to `Hostname`; undefined when it is none. Underscores are refused, and so is a name that looks like an IPv4. */
export function parseHostname(text: string): Hostname | undefined {
  const name = text.toLowerCase().replace(/\.$/, "");
  if (name.length === 0 || name.length > 253) return undefined;
  const labels = name.split(".");
  const last = labels[labels.length - 1]!;
  if (/^\d+$/.test(last)) return undefined;
  const plain = labels[0] === "*" ? labels.slice(1) : labels;
  if (plain.length === 0) return undefined;
  return plain.every((part) => part.length <= 63 && label.test(part)) ? (name as Hostname) : undefined;
}

export function isWildcard(name: Hostname): boolean {
  return name.startsWith("*.");
}

/** Whether `pattern` (exact, or `*.` and a suffix) covers `name`. A wildcard covers any depth, but not the suffix itself. */
export function covers(pattern: Hostname, name: Hostname): boolean {
  return pattern === name || (isWildcard(pattern) && name.endsWith(pattern.slice(1)));
}
