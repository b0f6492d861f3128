import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Scope, silentLogger, systemClock } from "../../base/index.ts";
import { FakeClock, scratchDir, testAuthority } from "../../testing/index.ts";
import type { Secrets } from "../config/secret.ts";
import { startFileSecrets } from "./file-secrets.ts";

const root = await testAuthority();
const [first, second] = [await root.issue({ dns: ["a.test"] }), await root.issue({ dns: ["a.test"] })];
type Issued = typeof first;

function scene() {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const dir = scratchDir();
  const [chain, key, roots] = [join(dir, "tls.crt"), join(dir, "tls.key"), join(dir, "ca.crt")];
  const said: string[] = [];
  const log = { ...silentLogger, warn: (fields: object) => void said.push(JSON.stringify(fields)) };
  const clock = new FakeClock();
  const files = startFileSecrets({ clock, log: log as unknown as typeof silentLogger }, scope);
  const write = (issued: Issued) => {
    for (const [file, text] of [
      [chain, issued.certChainPem],
      [key, issued.privateKeyPem],
    ] as const) {
      writeFileSync(`${file}.new`, text);
      renameSync(`${file}.new`, file);
    }
    writeFileSync(roots, issued.rootsPem);
  };
  /** Looks again until it holds, at most so long. */
  const seen = async (wanted: (now: Secrets) => boolean) => {
    const patience = AbortSignal.timeout(5_000);
    while (!wanted(files.current.value)) {
      patience.throwIfAborted();
      clock.advance(1_000);
      await new Promise((resolve) => systemClock.after(5, () => resolve(undefined)));
    }
  };
  return { files, write, seen, said, name: `file-cert:${chain}~${key}`, rootsName: `file-root:${roots}`, chain, key };
}

const chainOf = (secrets: Secrets, name: string) => {
  const secret = secrets.get(name);
  return secret?.kind === "certificate" ? secret.chain : undefined;
};

test("files are read when they are asked for, and each later content is news", async () => {
  const { files, write, seen, name, rootsName } = scene();
  write(first);
  await files.want([name, rootsName]);
  expect(chainOf(files.current.value, name)).toBe(first.certChainPem);
  expect(files.current.value.get(rootsName)).toMatchObject({ kind: "trust", roots: root.rootPem });
  write(second);
  await seen((now) => chainOf(now, name) === second.certChainPem);
  expect(JSON.stringify([...files.current.value])).not.toContain("BEGIN");
});

test("a file that is not there is said once, nobody waits for it, and it counts when it comes", async () => {
  const { files, write, seen, said, name } = scene();
  await files.want([name]);
  expect(files.current.value.size).toBe(0);
  expect(said).toEqual([expect.stringContaining("cannot read the files")]);
  write(first);
  await seen((now) => now.has(name));
  expect(said).toHaveLength(1);
});

test("of files that go or do not fit together the last good content stays, and why is said without it", async () => {
  const { files, write, seen, said, name, chain, key } = scene();
  write(first);
  await files.want([name]);
  writeFileSync(key, second.privateKeyPem);
  await seen(() => said.length === 1);
  rmSync(chain);
  await seen(() => said.length === 2);
  expect(chainOf(files.current.value, name)).toBe(first.certChainPem);
  expect(said[0]).toMatch(/cannot be used/);
  expect(said.join()).not.toContain("BEGIN");
});

test("what is no longer asked for is forgotten", async () => {
  const { files, write, name, rootsName } = scene();
  write(first);
  await files.want([name, rootsName]);
  await files.want([rootsName]);
  expect([...files.current.value.keys()]).toEqual([rootsName]);
});

test("other names are none of files, whatever they say", async () => {
  const { files } = scene();
  await files.want(["kubernetes://a", "default", "/etc/passwd"]);
  expect(files.current.value.size).toBe(0);
});

test("the machine's own roots have a name of their own", async () => {
  const { files } = scene();
  await files.want(["file-root:system"]);
  expect(files.current.value.get("file-root:system")?.kind).toBe("trust");
});
