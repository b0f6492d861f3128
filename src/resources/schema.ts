import { z } from "zod";
import {
  type Cidr,
  type Hostname,
  type Ip,
  parseCidr,
  parseHostname,
  parseIp,
  parseProtocol,
} from "../values/index.ts";
import { type Code, codes } from "./codes.ts";

/** Where inside a value: keys and indices, from the outside in. */
export type Path = readonly (string | number)[];

/** Notes that something is wrong (or unwise, when the code is a warning's) at a path below the value in hand. */
export type Report = (path: Path, code: Code, message: string) => void;

/** What our own issues carry through zod beside their message. */
export interface IssueParams {
  readonly code: Code;
}

/**
 * A rule over several fields of an object. Zod would skip it as soon as anything in the object is wrong; here it runs
 * unless one of the fields that it `needs` is, so that everything that can be said is said at once.
 */
export function rule<S extends z.ZodType>(
  schema: S,
  needs: ReadonlyArray<keyof z.output<S> & string>,
  judge: (value: z.output<S>, report: Report) => void,
): S {
  const check = z.check<z.output<S>>((payload) => {
    judge(payload.value, (path, code, message) => {
      const params: IssueParams = { code };
      payload.issues.push({ code: "custom", path: [...path], message, params, input: payload.value, continue: true });
    });
  });
  const spoils = (issue: z.core.$ZodRawIssue) => {
    if (issue.code === "unrecognized_keys") return false;
    const { code } = ((issue as { params?: unknown }).params ?? {}) as Partial<IssueParams>;
    if (code !== undefined && codes[code].severity === "warning") return false;
    const first = issue.path?.[0];
    return first === undefined ? issue.continue !== true : (needs as readonly PropertyKey[]).includes(first);
  };
  check._zod.def.when = (payload) => !payload.issues.some(spoils);
  return schema.check(check) as S;
}

/** Text that is parsed once: `article` says what it must be ("a DNS name"), `parse` gives undefined when it is not. */
export function parsed<T>(article: string, code: Code, parse: (text: string) => T | undefined): z.ZodType<T, string> {
  return z.string().transform((text, context): T => {
    const value = parse(text);
    if (value !== undefined) return value;
    const params: IssueParams = { code };
    context.issues.push({ code: "custom", message: `must be ${article}, got ${quoted(text)}`, params, input: text });
    return z.NEVER;
  });
}

/** A value as a message shows it: quoted, on one line, cut when long. */
export function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 120 ? `${text.slice(0, 117)}…"` : text;
}

export const text = z.string();
export const flag = z.boolean();
/** `{}` where the author writes nothing. */
export const textMap = z.record(z.string(), z.string());
/** A whole number in a range, both ends included. */
export const whole = (min: number, max: number) => z.int().min(min).max(max);
export const count = whole(0, 2 ** 32 - 1);
export const portNumber = whole(1, 65535);

export const hostname: z.ZodType<Hostname, string> = parsed("a DNS name", "ISM0306", parseHostname);
export const plainHostname = parsed("a DNS name without wildcard", "ISM0306", (name) => {
  const host = parseHostname(name);
  return host?.startsWith("*") ? undefined : host;
});
export const ip: z.ZodType<Ip, string> = parsed("an IP address", "ISM0307", parseIp);
export const cidr: z.ZodType<Cidr, string> = parsed(
  'an IP address or a range such as "10.0.0.0/8"',
  "ISM0307",
  parseCidr,
);

const dnsLabel = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** RFC 1123 §2.1, as Kubernetes asks of the names of namespaces. */
export function isDnsLabel(name: string): boolean {
  return dnsLabel.test(name);
}

export function isDnsSubdomain(name: string): boolean {
  return name.length <= 253 && name.split(".").every(isDnsLabel);
}

export const label = parsed("lower case letters, digits and dashes, at most 63", "ISM0308", (name) =>
  isDnsLabel(name) ? name : undefined,
);

const unitMs: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 1e-3,
  µs: 1e-3,
  ns: 1e-6,
};

/** `1h30m`, `1.5s`, `250ms` to milliseconds; undefined for anything else, and for what is longer than 100 years. */
export function parseDuration(written: string): number | undefined {
  if (!/^([0-9]{1,15}(\.[0-9]{1,9})?(h|ms|m|s|us|µs|ns))+$/.test(written)) return undefined;
  let sum = 0;
  for (const [, amount, unit] of written.matchAll(/([0-9.]+)(h|ms|m|s|us|µs|ns)/g))
    sum += Number(amount) * unitMs[unit!]!;
  // A tenth of a second has no exact binary form; a nanosecond is the finest that can be written.
  const ms = Math.round(sum * 1e6) / 1e6;
  return ms <= 100 * 365 * 24 * 3_600_000 ? ms : undefined;
}

/** A duration as text, to milliseconds: at least one, and whole. */
export const duration: z.ZodType<number, string> = parsed(
  'a duration of whole milliseconds such as "10s", "1m30s" or "250ms"',
  "ISM0309",
  (written) => {
    const ms = parseDuration(written);
    return ms !== undefined && ms >= 1 && Number.isInteger(ms) ? ms : undefined;
  },
);

/** The same, and `0s` for what ends with the session. */
export const durationOrZero: z.ZodType<number, string> = parsed(
  'a duration such as "0s" or "1h"',
  "ISM0309",
  (written) => {
    const ms = parseDuration(written);
    return ms !== undefined && Number.isInteger(ms) ? ms : undefined;
  },
);

/** A protocol as Istio's ports name it; empty or absent is found out from the first bytes. */
export const protocol = parsed(
  "one of HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, REDIS, MYSQL, UDP",
  "ISM0304",
  (word) => (word === "" ? "unset" : parseProtocol(word)),
);

/** Percent, 0 to 100, as `percentage.value`. */
export const percentValue = z.number().min(0).max(100);
export const percentage = z.strictObject({
  value: parsedPercent().default(0),
});

/** What is smaller than the finest step would silently be nothing. */
function parsedPercent() {
  return percentValue.refine((value) => value === 0 || value >= 0.0001, {
    error: "must be 0 or between 0.0001 and 100",
  });
}

/** The object form of a label selector that Kubernetes uses; only equality is read. */
export const labelMap = z.record(
  parsed(
    "a label key: an optional DNS prefix and a slash, then at most 63 letters, digits, '-', '_', '.'",
    "ISM0310",
    (key) => (isLabelKey(key) ? key : undefined),
  ),
  parsed(
    "a label value: at most 63 letters, digits, '-', '_', '.', beginning and ending in a letter or digit",
    "ISM0310",
    (value) => (isLabelValue(value) ? value : undefined),
  ),
);

const labelName = /^[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?$/;

export function isLabelKey(key: string): boolean {
  const [first, second, ...rest] = key.split("/");
  if (rest.length > 0) return false;
  return second === undefined ? labelName.test(first!) : isDnsSubdomain(first!) && labelName.test(second);
}

export function isLabelValue(value: string): boolean {
  return value === "" || labelName.test(value);
}

/** A port's or subset's name: a DNS label in either case. */
export const anyCaseLabel = parsed("letters, digits and dashes, at most 63", "ISM0308", (name) =>
  isDnsLabel(name.toLowerCase()) ? name : undefined,
);

/** The entries whose key was seen before, with the index of the first that had it. */
export function repeats<T>(
  entries: readonly T[],
  keyOf: (entry: T) => unknown,
): ReadonlyArray<{ index: number; first: number }> {
  const firstIndex = new Map<unknown, number>();
  const found: Array<{ index: number; first: number }> = [];
  for (const [index, entry] of entries.entries()) {
    const key = keyOf(entry);
    if (key === undefined) continue;
    const first = firstIndex.get(key);
    if (first === undefined) firstIndex.set(key, index);
    else found.push({ index, first });
  }
  return found;
}
