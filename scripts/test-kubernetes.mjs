// The guide and its failures on real Kubernetes: node scripts/test-kubernetes.mjs [what vitest takes]…
// Builds control planes first where they are not there yet. With ISTHMUS_KUBE_CONTEXTS=a,b the guide runs on two clusters
// of one's own (kind, for example) instead, by the kubeconfig of the moment, and what needs our own control planes is skipped.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(fileURLToPath(import.meta.url), "../..");
const required = /\b(all|kubernetes)\b/.test(process.env.ISTHMUS_REQUIRE ?? "");
const run = (program, ...args) => spawnSync(program, args, { cwd: root, stdio: "inherit" }).status ?? 1;

if (!process.env.ISTHMUS_KUBE_CONTEXTS) {
  for (const script of ["scripts/install-kubernetes.sh", "checks/dns/build-coredns.sh"]) {
    const status = run("bash", script);
    if (status !== 0 && required) process.exit(status);
  }
}
const vitest = join(root, "node_modules/vitest/vitest.mjs");
const wanted = process.argv.slice(2);
const suite = (config) => run(process.execPath, vitest, "run", "--config", config, ...wanted);
// With a part of a name the other suite may have nothing of it.
const dns = wanted.length > 0 || process.env.ISTHMUS_KUBE_CONTEXTS ? 0 : suite("checks/dns/vitest.config.ts");
process.exit(suite("checks/kubernetes/vitest.config.ts") || dns);
