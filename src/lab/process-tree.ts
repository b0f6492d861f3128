import { readdirSync, readFileSync } from "node:fs";

/** The child of a process that has one. */
export function childOf(parent: number): number | undefined {
  return [...parents()].find(([, its]) => its === parent)?.[0];
}

/** A process and all that it and its children started, parents first. */
export function descendants(root: number): readonly number[] {
  const parentOf = parents();
  const found = [root];
  // The list grows while it is walked: children of children are found on the way.
  for (const pid of found) for (const [child, its] of parentOf) if (its === pid) found.push(child);
  return found;
}

/** Every process that this one can see, to its parent. */
function parents(): ReadonlyMap<number, number> {
  const parentOf = new Map<number, number>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      // The fields after the name in brackets are state and parent (proc(5)).
      parentOf.set(Number(entry), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It ended while we looked.
    }
  }
  return parentOf;
}
