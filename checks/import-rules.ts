import { posix } from "node:path";
import { packageHomes, pureBaseNames, pureModules, pureRooms, reserved, rooms } from "./rooms.ts";

interface Import {
  readonly from: string;
  readonly typeOnly: boolean;
  readonly names: readonly string[];
}

/** Every import and re-export of a text. Side-effect imports and dynamic ones count too. */
function importsOf(text: string): Import[] {
  const found: Import[] = [];
  const statement = /^\s*(?:import|export)\s+(type\s+)?([^;"']*?)\s*from\s*["']([^"']+)["']/gm;
  for (const [, type, clause, from] of text.matchAll(statement)) {
    const names = (clause ?? "")
      .match(/\{([^}]*)\}/)?.[1]
      ?.split(",")
      .map((name) => name.trim())
      .filter(Boolean) ?? [clause ?? ""];
    const running = names.filter((name) => !name.startsWith("type "));
    found.push({
      from: from!,
      typeOnly: type !== undefined || running.length === 0,
      names: running.map((name) => name.split(" ")[0]!),
    });
  }
  for (const [, from] of text.matchAll(/\bimport\(\s*["']([^"']+)["']/g))
    found.push({ from: from!, typeOnly: false, names: [] });
  for (const [, from] of text.matchAll(/^\s*import\s+["']([^"']+)["']/gm))
    found.push({ from: from!, typeOnly: false, names: [] });
  return found;
}

const atHome = (file: string, homes: readonly string[]) =>
  homes.some((home) => file === home || file.startsWith(home.endsWith("/") ? home : `${home}/`));

/** All that is wrong with one file of src/, as lines for a person. */
export function violations(file: string, text: string): string[] {
  const wrong: string[] = [];
  const isTest = file.endsWith(".test.ts") || file.includes("/testdata/");
  const room = file.split("/")[0]!;
  const allowed = rooms[room];
  if (!allowed) return [`${file}: "${room}" is no room of checks/rooms.ts`];
  for (const { from, typeOnly, names } of importsOf(text)) {
    if (from.startsWith(".")) {
      const target = posix.normalize(posix.join(posix.dirname(file), from));
      if (target.startsWith("..")) {
        if (!isTest) wrong.push(`${file} imports ${from}, which is outside src/`);
        continue;
      }
      const other = target.split("/")[0]!;
      if (other === room || target.startsWith("proto/gen/")) {
        if (target.startsWith("proto/gen/") && room !== "proto" && !allowed.includes("proto"))
          wrong.push(`${file} imports ${target}; ${room} does not know proto`);
        continue;
      }
      if (other === "testing" ? !isTest : !allowed.includes(other) && !isTest)
        wrong.push(`${file} imports ${other}; ${room} may import ${allowed.join(", ") || "nothing"}`);
      else if (target !== `${other}/index.ts`)
        wrong.push(`${file} imports ${target}; import ${other}/index.ts, the door of the room`);
      if (pureRooms.includes(room) && other === "base" && !typeOnly && !isTest) {
        const running = names.filter((name) => !pureBaseNames.includes(name));
        if (running.length > 0)
          wrong.push(`${file} takes ${running.join(", ")} from base; a pure room takes failures and types`);
      }
      continue;
    }
    if (isTest || room === "testing") continue;
    if (from.startsWith("node:")) {
      const nameable = names.map(
        (name) => `${from}#${name.startsWith("isIP") || name === "BlockList" ? "isIP" : name}`,
      );
      const fine =
        pureModules.includes(from) || (nameable.length > 0 && nameable.every((name) => pureModules.includes(name)));
      if (pureRooms.includes(room) && !typeOnly && !fine) wrong.push(`${file} imports ${from}; ${room} is pure`);
      continue;
    }
    const name = from.startsWith("@") ? from.split("/").slice(0, 2).join("/") : from.split("/")[0]!;
    const homes = packageHomes[name];
    if (!homes) wrong.push(`${file} imports ${name}, which has no home in checks/rooms.ts`);
    else if (!atHome(file, homes)) wrong.push(`${file} imports ${name}; its home is ${homes.join(", ")}`);
  }
  if (!isTest && room !== "testing") {
    for (const [index, line] of text.split("\n").entries()) {
      const code = line.replace(/^\s*(\/\/|\*|\/\*).*$/, "");
      for (const { word, homes, why } of reserved) {
        if (word.test(code) && !homes.some((home) => (home.endsWith("/") ? file.startsWith(home) : file === home)))
          wrong.push(`${file}:${index + 1} says ${word.exec(code)![0]}: ${why}`);
      }
    }
  }
  return wrong;
}
