import { documents } from "../resources/index.ts";
import { shown } from "./shape.ts";

/** What is known here of Istio's ProxyConfig. */
export interface ProxyConfig {
  readonly concurrency?: number;
  readonly holdApplication?: boolean;
  readonly drainSeconds?: number;
  readonly env: Readonly<Record<string, string>>;
}

/** The YAML of the annotation `proxy.istio.io/config`. What is wrong is told by its path below the annotation. */
export function readProxyConfig(
  text: string | undefined,
  say: { readonly problem: (path: string, why: string) => void; readonly warning: (path: string, why: string) => void },
): ProxyConfig {
  if (text === undefined) return { env: {} };
  const [document, ...more] = [...documents(text)];
  if (!document) return { env: {} };
  const [wrong] = document.problems;
  const value = document.value as Readonly<Record<string, unknown>> | null;
  if (wrong || more.length > 0 || typeof value !== "object" || value === null || Array.isArray(value)) {
    say.problem(
      "",
      `must be one YAML mapping such as "concurrency: 2"${wrong ? `: ${wrong.message}` : `, got ${shown(text)}`}`,
    );
    return { env: {} };
  }
  const found: { -readonly [K in keyof ProxyConfig]: ProxyConfig[K] } = { env: {} };
  for (const [key, item] of Object.entries(value)) {
    if (item === null) continue;
    if (key === "concurrency") {
      if (Number.isInteger(item) && (item as number) >= 0 && (item as number) <= 1024)
        found.concurrency = item as number;
      else say.problem(".concurrency", `must be a whole number from 0 to 1024, got ${shown(item)}`);
    } else if (key === "holdApplicationUntilProxyStarts") {
      if (typeof item === "boolean") found.holdApplication = item;
      else say.problem(`.${key}`, `must be true or false, got ${shown(item)}`);
    } else if (key === "terminationDrainDuration") {
      const [, number] = /^([1-9]\d{0,3})s$/.exec(String(item)) ?? [];
      if (number !== undefined) found.drainSeconds = Number(number);
      else say.problem(`.${key}`, `must be whole seconds such as "30s", got ${shown(item)}`);
    } else if (key === "proxyMetadata") {
      const entries = typeof item === "object" && !Array.isArray(item) ? Object.entries(item) : undefined;
      if (entries?.every(([name, one]) => typeof one === "string" && /^[A-Za-z_][A-Za-z0-9_.-]*$/.test(name)))
        found.env = Object.fromEntries(entries) as Record<string, string>;
      else
        say.problem(
          `.${key}`,
          `must be an object of text by names of variables, got ${shown(item)}; put values in quotes`,
        );
    } else say.warning(`.${key}`, "is not read; it changes nothing");
  }
  return found;
}
