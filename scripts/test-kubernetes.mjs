// The guide and its failures on real Kubernetes, and what a real CoreDNS and a real Helm make of what we write:
// node scripts/test-kubernetes.mjs [what vitest takes]…
// Builds these programs first where they are not there yet. With ISTHMUS_KUBE_CONTEXTS=a,b the guide runs on two clusters
// of one's own (kind, for example) instead, by the kubeconfig of the moment, and what needs our own control planes is skipped.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(fileURLToPath(import.meta.url), "../..");
const required = /\b(all|kubernetes|helm)\b/.test(process.env.ISTHMUS_REQUIRE ?? "");
const run = (program, ...args) => spawnSync(program, args, { cwd: root, stdio: "inherit" }).status ?? 1;

const wanted = process.argv.slice(2);
// With a part of a name the other suites may have nothing of it.
const all = wanted.length === 0 && !process.env.ISTHMUS_KUBE_CONTEXTS;

if (!process.env.ISTHMUS_KUBE_CONTEXTS) {
  const more = all ? ["scripts/install-helm.sh"] : [];
  for (const script of ["scripts/install-kubernetes.sh", "checks/dns/build-coredns.sh", ...more]) {
    const status = run("bash", script);
    if (status !== 0 && required) process.exit(status);
  }
}
const vitest = join(root, "node_modules/vitest/vitest.mjs");
const suite = (config) => run(process.execPath, vitest, "run", "--config", config, ...wanted);
const others = (all ? ["checks/helm/vitest.config.ts", "checks/dns/vitest.config.ts"] : []).map(suite);
process.exit(suite("checks/kubernetes/vitest.config.ts") || others.find((status) => status !== 0) || 0);
