import { expect, test } from "vitest";
import { roomForConnections } from "./descriptors.ts";

const limits = (most: string) => `Limit                     Soft Limit           Hard Limit           Units
Max processes             31384                31384                processes
Max open files            ${most.padEnd(20)} 1048576              files
`;

for (const [it, text, room] of [
  ["half of what is left beside the spare ones", limits("1024"), 480],
  ["a few when there are hardly any", limits("40"), 8],
  ["not known when there is no limit", limits("unlimited"), undefined],
  ["not known when nothing is told", "", undefined],
] as const)
  test(`room for connections is ${it}`, () => expect(roomForConnections(text)).toBe(room));
