import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** `HOST:PORT` or `[IPV6]:PORT`. */
export function parseTarget(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  if (!match || !host || Number(match[3]) > 65535) throw new Error(`"${text}" is not of the form HOST:PORT`);
  return { host, port: Number(match[3]) };
}

/** Whether the module is what node was started with, rather than imported. */
export function isProgram(moduleUrl: string): boolean {
  const started = process.argv[1];
  if (!started) return false;
  try {
    return realpathSync(started) === fileURLToPath(moduleUrl);
  } catch {
    return false; // What was started is no file: it cannot be this one.
  }
}
