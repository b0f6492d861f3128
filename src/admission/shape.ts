/** Where and what: `capture.excludeInboundPorts[0]: must be a port, got 0`. */
export type Complain = (at: string, problem: string) => void;

/** An untrusted value to a `T`, complaining of all that is wrong; what it returns then does not count. */
export type Shape<T> = (value: unknown, at: string, complain: Complain) => T;

/** A value as a message shows it: on one line, cut when long. */
export function shown(value: unknown): string {
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}

function must<T>(article: string, is: (value: unknown) => boolean): Shape<T> {
  return (value, at, complain) => {
    if (!is(value))
      complain(at, value === undefined ? `is required: ${article}` : `must be ${article}, got ${shown(value)}`);
    return value as T;
  };
}

export const flag = must<boolean>("true or false", (value) => typeof value === "boolean");
export const anyText = must<string>("text", (value) => typeof value === "string");

/** Text that `is` approves of. */
export function text(article: string, is: (text: string) => boolean): Shape<string> {
  return must(article, (value) => typeof value === "string" && is(value));
}

export function whole(min: number, max: number): Shape<number> {
  return must(
    `a whole number from ${min} to ${max}`,
    (value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max,
  );
}

export function oneOf<const W extends string>(...words: readonly W[]): Shape<W> {
  return must(`one of ${words.join(", ")}`, (value) => (words as readonly unknown[]).includes(value));
}

export function orNull<T>(shape: Shape<T>): Shape<T | null> {
  return (value, at, complain) => (value === null ? null : shape(value, at, complain));
}

export function optional<T>(shape: Shape<T>): Shape<T | undefined> {
  return (value, at, complain) => (value === undefined ? undefined : shape(value, at, complain));
}

export function list<T>(shape: Shape<T>): Shape<readonly T[]> {
  const isList = must<readonly unknown[]>("a list", Array.isArray);
  return (value, at, complain) => {
    const items = isList(value, at, complain);
    return Array.isArray(items) ? items.map((item, index) => shape(item, `${at}[${index}]`, complain)) : [];
  };
}

const isMapping = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
const mapping = must<Readonly<Record<string, unknown>>>("an object", isMapping);

/** Whatever keys that `isKey` approves of. */
export function record<T>(shape: Shape<T>, key: { readonly article: string; readonly is: (key: string) => boolean }) {
  const read: Shape<Readonly<Record<string, T>>> = (value, at, complain) => {
    const entries = mapping(value, at, complain);
    if (!isMapping(entries)) return {};
    return Object.fromEntries(
      Object.entries(entries).map(([name, item]) => {
        if (!key.is(name)) complain(below(at, name), `the key must be ${key.article}`);
        return [name, shape(item, below(at, name), complain)];
      }),
    );
  };
  return read;
}

/** Exactly these fields; what is absent takes its value from `defaults`. */
export function object<T extends object>(
  fields: { readonly [K in keyof T]-?: Shape<T[K]> },
  defaults: Partial<T> = {},
): Shape<T> {
  return (value, at, complain) => {
    const given = mapping(value, at, complain);
    if (!isMapping(given)) return {} as T;
    const names = Object.keys(fields);
    for (const name of Object.keys(given))
      if (!names.includes(name)) complain(below(at, name), `is not a field here; there is ${names.join(", ")}`);
    const read = names.map((name) => {
      const field = name as keyof T & string;
      const own = Object.hasOwn(given, field) ? given[field] : undefined;
      const fallback = defaults[field];
      return [
        field,
        own === undefined && fallback !== undefined ? fallback : fields[field](own, below(at, field), complain),
      ];
    });
    return Object.fromEntries(read.filter(([, item]) => item !== undefined)) as T;
  };
}

function below(at: string, key: string): string {
  const name = /^[A-Za-z_$][\w$-]*$/.test(key) ? key : undefined;
  if (name === undefined) return `${at}[${JSON.stringify(key)}]`;
  return at === "" ? name : `${at}.${name}`;
}
