import { readFileSync } from "node:fs";

/** Descriptors for what is no connection: listening sockets, files, the runtime's own. */
const spare = 64;

/**
 * How many connections may be open at a time without running out of descriptors, each having one towards its server;
 * undefined where the system does not tell. Beyond that number connections are turned away and counted: a table of
 * descriptors that is full would also keep us from our servers, and the runtime would not tell of it.
 */
export function roomForConnections(limits = ownLimits()): number | undefined {
  const most = /^Max open files\s+(\d+)/m.exec(limits ?? "")?.[1];
  return most === undefined ? undefined : Math.max(8, Math.floor((Number(most) - spare) / 2));
}

function ownLimits(): string | undefined {
  try {
    return readFileSync("/proc/self/limits", "utf8");
  } catch {
    return undefined;
  }
}
