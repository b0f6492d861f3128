import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { snapshotFor } from "./snapshot.ts";
import { meshOf, nodeOf, plainSnapshot, read } from "./testdata/sample.ts";

const root = join(import.meta.dirname, "testdata");
const writing = process.env["ISTHMUS_GOLDEN"] === "write";

interface Proxy {
  readonly id: string;
  readonly metadata?: JsonObject;
}

describe("what proxies run", () => {
  for (const name of readdirSync(root)) {
    const dir = join(root, name);
    if (!existsSync(join(dir, "in.yaml"))) continue;
    const proxies = JSON.parse(read(join(dir, "proxies.json"))) as Record<string, Proxy>;
    const { settings = {}, ...rest } = proxies as { settings?: object } & Record<string, Proxy>;
    const mesh = meshOf(read(join(dir, "in.yaml")), settings);
    for (const [proxy, { id, metadata }] of Object.entries(rest as Record<string, Proxy>)) {
      test(`${name}: ${proxy}`, () => {
        const text = stringify(plainSnapshot(snapshotFor(mesh, nodeOf(id, metadata))), {
          aliasDuplicateObjects: false,
          lineWidth: 0,
        });
        const file = join(dir, `out.${proxy}.yaml`);
        if (writing) writeFileSync(file, text);
        expect(text).toBe(read(file));
      });
    }
    test(`${name}: findings`, () => {
      const text = stringify(
        mesh.findings.map(({ origin, ...finding }) => ({
          ...finding,
          of: `${origin.kind} ${origin.namespace}/${origin.name}`,
        })),
      );
      const file = join(dir, "out.findings.yaml");
      if (writing) writeFileSync(file, text);
      expect(text).toBe(read(file));
    });
  }
});
