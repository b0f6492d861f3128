/**
 * Header fields as one flat list, `[name, value, name, value, …]`: names in lower case, order and repeats kept. Hop-by-hop
 * fields, `host` and `content-length` are never in it: the codec takes them out while it reads and puts its own in when
 * it writes. Flat because a request crosses the proxy with two allocations less per field than with pairs.
 */
export type Headers = string[];

/** The first value of `name` (lower case), or undefined. */
export function headerValue(headers: readonly string[], name: string): string | undefined {
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return headers[i + 1];
  return undefined;
}

/** All values of `name`, joined as RFC 9110 §5.3 allows, so that a rule sees each of them; undefined when there is none. */
export function allHeaderValues(headers: readonly string[], name: string): string | undefined {
  let found: string | undefined;
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] === name) found = found === undefined ? headers[i + 1] : `${found},${headers[i + 1]}`;
  }
  return found;
}

export function removeHeader(headers: Headers, name: string): void {
  let to = 0;
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] === name) continue;
    if (to !== i) {
      headers[to] = headers[i]!;
      headers[to + 1] = headers[i + 1]!;
    }
    to += 2;
  }
  headers.length = to;
}

/** Replaces every `name` by this one value. */
export function setHeader(headers: Headers, name: string, value: string): void {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] !== name) continue;
    headers[i + 1] = value;
    for (let later = headers.length - 2; later > i; later -= 2) if (headers[later] === name) headers.splice(later, 2);
    return;
  }
  headers.push(name, value);
}

const fieldName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the very characters that a value may not hold.
const unsafeValue = /[\u0000-\u0008\u000a-\u001f\u007f]|[^\u0000-\u00ff]/;

/** Whether `name` can stand on the wire as a field name in lower case (RFC 9110 §5.1). */
export function isFieldName(name: string): boolean {
  return fieldName.test(name);
}

/** Whether `value` can stand on the wire: no control characters but tab, nothing beyond one byte a character. */
export function isFieldValue(value: string): boolean {
  return !unsafeValue.test(value);
}
