import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Scope, silentLogger, systemClock } from "../base/index.ts";
import { scratchDir } from "../testing/index.ts";
import { createIntermediate, createRoot } from "./make-cacerts.ts";
import { type CacertsFiles, cacertsNames } from "./roots.ts";
import { startCacerts } from "./watch-roots.ts";

const nowMs = systemClock.now();
const first = createIntermediate({ nowMs, issuer: createRoot({ nowMs }), cluster: "cluster1" });
const second = createIntermediate({ nowMs, issuer: createRoot({ nowMs }), cluster: "cluster1" });
const quick = { timeout: 8_000, interval: 20 };

/** A Secret as kubelet mounts it: links to a link to a folder, and it is the middle link that is swapped. */
function mounted(dir: string, version: number, files: CacertsFiles): void {
  const folder = `..2026_01_0${version}`;
  mkdirSync(join(dir, folder));
  for (const name of cacertsNames) writeFileSync(join(dir, folder, name), files[name]);
  symlinkSync(folder, join(dir, "..data_tmp"));
  renameSync(join(dir, "..data_tmp"), join(dir, "..data"));
  if (version === 1) for (const name of cacertsNames) symlinkSync(join("..data", name), join(dir, name));
  else rmSync(join(dir, `..2026_01_0${version - 1}`), { recursive: true });
}

test("a Secret that kubelet swaps under its mount is taken up; one that is unfit is not, and that is said", async () => {
  const dir = scratchDir();
  mounted(dir, 1, first);
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const source = await startCacerts({ dir, clock: systemClock, log: silentLogger, demo: "refused" }, scope);
  expect(source.current.value.trust.pem).toBe(first["root-cert.pem"]);
  mounted(dir, 2, second);
  await expect.poll(() => source.current.value.trust.pem, quick).toBe(second["root-cert.pem"]);
  expect(source.problem.value).toBeUndefined();
  mounted(dir, 3, { ...second, "ca-key.pem": first["ca-key.pem"] });
  await expect.poll(() => source.problem.value?.code, quick).toBe("ca/cacerts-key-mismatch");
  expect(source.problem.value?.message).toContain("ca-key.pem");
  expect(source.current.value.trust.pem).toBe(second["root-cert.pem"]);
  mounted(dir, 4, first);
  await expect.poll(() => source.current.value.trust.pem, quick).toBe(first["root-cert.pem"]);
  expect(source.problem.value).toBeUndefined();
});
