import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");
const dir = mkdtempSync(join(tmpdir(), "isthmus-image-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** As a container would start it: with nothing of this machine but Node. */
function isthmus(...args: readonly string[]): string {
  const main = join(dir, "dist/cli/main.js");
  return execFileSync(process.execPath, [main, ...args], {
    cwd: "/",
    env: { PATH: "/usr/bin:/bin" },
    encoding: "utf8",
  });
}

describe("what goes into the image", () => {
  execFileSync(process.execPath, [join(root, "scripts/image-context.mjs"), "--out", dir], { stdio: "pipe" });

  test("starts from a bare folder with what it runs with, and nothing else", () => {
    expect(isthmus("--version")).toMatch(/^\d+\.\d+\.\d+/);
    expect(
      readdirSync(dir)
        .filter((name) => !name.startsWith("."))
        .sort(),
    ).toEqual(["LICENSE", "dist", "node_modules", "package.json"]);
    for (const name of ["typescript", "vitest", "@biomejs"])
      expect(existsSync(join(dir, "node_modules", name)), name).toBe(false);
  });

  // Loading a command loads everything that it imports.
  for (const command of ["controlplane", "proxy", "agent", "capture", "wait", "install", "--help"])
    test(`has all that ${command} needs`, () => expect(isthmus(command, "--help")).toContain("Usage: isthmus"));
});
