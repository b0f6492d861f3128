import { Failure } from "../base/index.ts";

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `24h`, `1h30m`, `3650d` to milliseconds. Throws `usage/duration`, naming the option it was given for. */
export function parseDuration(text: string, option: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)];
  const ms = parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * unitMs[unit!]!, 0);
  if (parts.length === 0 || parts.map(([part]) => part).join("") !== text || !(ms > 0)) {
    throw new Failure("usage/duration", `${option}: "${text}" is no duration`, { hint: "write 30s, 24h or 1h30m" });
  }
  return ms;
}
