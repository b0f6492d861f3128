import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { root } from "../e2e/isthmus.ts";
import { missingForGround } from "./clusters.ts";
import { type Ground, startGround } from "./ground/ground.ts";
import { kubeconfigText } from "./ground/index.ts";

const missing = missingForGround();

/** How the guide runs for somebody with two clusters of their own: a kubeconfig, kubectl, and nothing of our machinery. */
describe("clusters of somebody's own", () => {
  if (missing) {
    test("run the guide", ({ skip }) => skip(missing));
    return;
  }
  let ground: Ground;
  let env: Record<string, string>;
  beforeAll(async () => {
    ground = await startGround();
    const names = ["here", "there"] as const;
    const contexts = ground.network.clusters.map(({ name, server }, at) =>
      ground.planes.get(name)!.contextAt(server, names[at]),
    );
    const kubeconfig = join(ground.folder, "theirs.kubeconfig");
    writeFileSync(kubeconfig, kubeconfigText(contexts), { mode: 0o600 });
    // Nothing was ever built there, no Envoy was fetched.
    const cache = join(ground.folder, "empty-cache");
    mkdirSync(cache);
    env = {
      KUBECONFIG: kubeconfig,
      ISTHMUS_KUBE_CONTEXTS: names.join(","),
      XDG_CACHE_HOME: cache,
      // Counted once, by the suite that this is a test of.
      ISTHMUS_TALLY: "",
    };
  });
  afterAll(() => ground?.stop());

  const suite = (...args: readonly string[]) =>
    ground.run([process.execPath, join(root, "scripts/test-kubernetes.mjs"), ...args], { env, timeoutMs: 900_000 });

  test("with a namespace that the guide would make and delete are left alone, by its name", async () => {
    const kubectl = (...args: readonly string[]) => ground.run(["kubectl", "--context", "there", ...args], { env });
    await kubectl("create", "namespace", "bar");
    const { code, stdout, stderr } = await suite("guide-embedded");
    expect(code).not.toBe(0);
    expect(stdout + stderr).toContain('context "there" has namespace "bar"');
    expect(await kubectl("delete", "namespace", "bar")).toMatchObject({ code: 0 });
  });

  // Sections 4 and 5 ask the clusters for nothing that the others have not asked for.
  const sections = "(1|2|3): |uninstalled|runs$";
  test("run the guide by the names of their contexts; what ends API servers is skipped, loudly", {
    timeout: 960_000,
    retry: 0,
  }, async () => {
    const { code, stdout, stderr } = await suite("guide-embedded", "outages", "-t", sections);
    const said = stdout + stderr;
    expect(code, said).toBe(0);
    expect(said).toMatch(/^7 passed, 0 failed, \d+ skipped$/m);
    expect(said).toContain("runs: needs control planes of its own, and ISTHMUS_KUBE_CONTEXTS names somebody's");
  });
});
