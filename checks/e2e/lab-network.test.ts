import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { testIn } from "./requirements.ts";

const dist = process.env["ISTHMUS_DIST"] ?? "dist";
const home = mkdtempSync(join(tmpdir(), "ilab-"));
const env = { ...process.env, ISTHMUS_LAB_HOME: home };

function isthmus(...args: readonly string[]) {
  return spawnSync(process.execPath, [join(dist, "cli/main.js"), ...args], { env, encoding: "utf8", timeout: 120_000 });
}

/** What connecting from a pod of cluster1 comes to: a word from the system, or "connected". */
function dial(workload: string, ip: string, port: number): string {
  const script =
    "const s = require('node:net').connect({ host: process.argv[1], port: Number(process.argv[2]), timeout: 5000 });" +
    "const say = (w) => { process.stdout.write(w); process.exit(); };" +
    "s.on('connect', () => say('connected')).on('timeout', () => say('nothing')).on('error', (e) => say(e.code));";
  const node = [process.execPath, "-e", script, ip, String(port)];
  return isthmus("lab", "exec", "--name", "net", "cluster1", workload, "--", ...node).stdout;
}

const run = await testIn("netns");
describe("the network of a lab", () => {
  beforeAll(() => {
    const up = isthmus("lab", "up", "--name", "net", "--mode", "netns");
    expect(`${up.status} ${up.stderr}`).toBe("0 ");
  });
  afterAll(() => {
    isthmus("lab", "down", "--name", "net");
    rmSync(home, { recursive: true, force: true });
  });

  run("the gateway of the other cluster can be reached, by its address and by a node's port", () => {
    expect(dial("ingressgateway", "172.30.2.10", 15443)).toBe("connected");
    expect(dial("ingressgateway", "172.30.2.1", 31443)).toBe("connected");
  });

  run("the other cluster's control plane cannot be reached, not even by a route to its router", () => {
    expect(dial("ingressgateway", "10.244.0.2", 15012)).toBe("connected"); // Its own, at the same address.
    expect(dial("ingressgateway", "172.30.2.1", 15012)).toMatch(/nothing|ECONNREFUSED/);
    const through =
      "ip addr del $(ip -o -4 addr show eth0 | tr -s ' ' | cut -d' ' -f4) dev eth0 && ip route add 10.244.0.0/16 via 172.30.2.1";
    const exec = isthmus("lab", "exec", "--name", "net", "cluster1", "ingressgateway", "--", "sh", "-c", through);
    expect(`${exec.status} ${exec.stderr}`).toBe("0 ");
    expect(dial("ingressgateway", "10.244.0.2", 15012)).toBe("nothing");
    expect(dial("ingressgateway", "10.244.0.11", 80)).toBe("nothing");
  });
});
