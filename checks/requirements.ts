import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "vitest";
import { envoyPlaces } from "../src/proxy/index.ts";
import { builtProgram } from "./built-program.ts";
import { coreDnsProgram, findMachinery } from "./kubernetes/ground/machinery.ts";

/** What a test may need of the machine beyond Node, and how to find out whether it is there. */
const probes = {
  root: () => process.getuid?.() === 0 || "not root",
  netns: () => tryRun(["unshare", "--net", "true"]) || "network namespaces are not available here",
  userns: () =>
    tryRun(["unshare", "--user", "--map-root-user", "--net", "true"]) || "user namespaces are not available here",
  iptables: () => onPath("iptables") || "iptables is not installed",
  curl: () => onPath("curl") || "curl is not installed",
  tcpdump: () => onPath("tcpdump") || "tcpdump is not installed",
  dig: () => onPath("dig") || "dig is not installed",
  openssl: () => onPath("openssl") || "openssl is not installed",
  haproxy: () => onPath("haproxy") || "haproxy is not installed",
  envoy: () => hasEnvoy() || "no Envoy is installed; isthmus envoy install",
  nginx: () => onPath("nginx") || "nginx is not installed",
  kubernetes: () => hasKubernetes() || "no Kubernetes control plane is built; scripts/install-kubernetes.sh",
  helm: () => builtProgram(process.env, "HELM", "helm") !== undefined || "no Helm is built; scripts/install-helm.sh",
  h2spec: () =>
    builtProgram(process.env, "H2SPEC", "h2spec") !== undefined || "no h2spec is built; scripts/install-h2spec.sh",
} satisfies Record<string, () => true | string>;

export type Requirement = keyof typeof probes;

const paths = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/sbin"];

function onPath(program: string): boolean {
  return paths.some((dir) => existsSync(`${dir}/${program}`));
}

/** As the agent looks for it; which version it is, that says itself when it is wanted. */
function hasEnvoy(): boolean {
  const { cache, setting } = envoyPlaces(process.env);
  if (setting !== undefined) return existsSync(setting);
  const cached = existsSync(cache)
    ? readdirSync(cache).filter((version) => existsSync(join(cache, version, "envoy")))
    : [];
  return cached.length > 0 || (process.env["PATH"] ?? "").split(":").some((dir) => existsSync(`${dir}/envoy`));
}

function hasKubernetes(): boolean {
  return !("missing" in findMachinery(process.env)) && coreDnsProgram(process.env) !== undefined;
}

function tryRun([program, ...args]: readonly [string, ...string[]]): boolean {
  try {
    execFileSync(program, args, { stdio: "ignore", timeout: 10_000 });
    return true;
  } catch {
    return false;
  }
}

/** Why this machine lacks one of these; undefined when it has all. Throws when `ISTHMUS_REQUIRE` names it (or `all`). */
export function missingOf(requirements: readonly Requirement[]): string | undefined {
  const required = (process.env["ISTHMUS_REQUIRE"] ?? "").split(",");
  for (const requirement of requirements) {
    const found = probes[requirement]();
    if (found === true) continue;
    if (required.includes(requirement) || required.includes("all")) {
      throw new Error(`this needs "${requirement}", which ISTHMUS_REQUIRE demands: ${found}`);
    }
    return `needs "${requirement}": ${found}`;
  }
  return undefined;
}

/** Skips the test, with the reason, when the machine lacks something; fails it instead where that is required. */
export function needs(context: Pick<TestContext, "skip">, ...requirements: readonly Requirement[]): void {
  const missing = missingOf(requirements);
  if (missing) context.skip(missing);
}
