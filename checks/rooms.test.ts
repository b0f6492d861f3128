import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { violations } from "./import-rules.ts";
import { rooms } from "./rooms.ts";

const src = join(import.meta.dirname, "../src");
const files = readdirSync(src, { recursive: true, encoding: "utf8" })
  .map((file) => file.split("\\").join("/"))
  .filter((file) => file.endsWith(".ts") && !file.startsWith("proto/gen/"));

describe("rooms", () => {
  test("there are files to check", () => expect(files.length).toBeGreaterThan(20));

  test("every import keeps to the table, the doors and the homes", () => {
    expect(files.flatMap((file) => violations(file, readFileSync(join(src, file), "utf8")))).toEqual([]);
  });

  test("the table in ARCHITECTURE.md is the table of the check", () => {
    const text = readFileSync(join(import.meta.dirname, "../ARCHITECTURE.md"), "utf8");
    const rows = (text.split("<!-- rooms -->")[1] ?? "").matchAll(/^\| `(\w+)` \|[^|]*\| ([^|]*) \|$/gm);
    const written = Object.fromEntries(
      [...rows].map(([, room, list]) => [room, list === "nothing" ? [] : list!.split(", ")]),
    );
    expect(written).toEqual(rooms);
  });

  test("no two rooms import each other, directly or around a corner", () => {
    const order = Object.keys(rooms);
    for (const [room, allowed] of Object.entries(rooms)) {
      for (const other of allowed)
        expect(order.indexOf(other), `${room} imports ${other}`).toBeLessThan(order.indexOf(room));
    }
  });

  const broken = [
    {
      it: "a room below",
      file: "values/x.ts",
      text: 'import { buildMesh } from "../model/index.ts";',
      says: /values may import base/,
    },
    {
      it: "past a door",
      file: "xds/x.ts",
      text: 'import { buildMesh } from "../model/mesh.ts";',
      says: /the door of the room/,
    },
    {
      it: "I/O in a pure room",
      file: "model/x.ts",
      text: 'import { readFileSync } from "node:fs";',
      says: /model is pure/,
    },
    {
      it: "what runs from base in a pure room",
      file: "model/x.ts",
      text: 'import { Cell } from "../base/index.ts";',
      says: /takes Cell/,
    },
    {
      it: "a package away from home",
      file: "model/x.ts",
      text: 'import { z } from "zod";',
      says: /its home is resources/,
    },
    { it: "a package nobody named", file: "model/x.ts", text: 'import x from "left-pad";', says: /no home/ },
    { it: "the system clock", file: "ads/x.ts", text: "const at = Date.now();", says: /take a Clock/ },
    {
      it: "tests' tools in production",
      file: "ads/x.ts",
      text: 'import { FakeClock } from "../testing/index.ts";',
      says: /may import/,
    },
  ];
  for (const { it, file, text, says } of broken) {
    test(`the check sees ${it}`, () => expect(violations(file, text).join("\n")).toMatch(says));
  }
});
