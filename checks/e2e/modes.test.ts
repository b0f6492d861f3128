import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { needs, type Requirement } from "../requirements.ts";
import { eventually, isthmus, root, run } from "./isthmus.ts";
import { cluster, type TestLab, upLab } from "./lab.ts";

const modes: ReadonlyArray<{ readonly mode: string; readonly needs: readonly Requirement[] }> = [
  { mode: "netns", needs: ["root", "netns", "iptables", "curl"] },
  { mode: "userns", needs: ["userns", "iptables", "curl"] },
  { mode: "explicit", needs: ["curl"] },
];

describe("the demo, in every mode", () => {
  for (const { mode, needs: wanted } of modes) {
    test(`${mode}: comes up, calls, shows its hops and leaves nothing behind`, async ({ skip }) => {
      needs({ skip }, ...wanted);
      const name = `demo-${mode}-${process.pid}`;
      const ran = await isthmus(["demo", "--once", "--mode", mode, "--name", name], { timeoutMs: 180_000 });
      expect(ran.code, `${ran.stdout}\n${ran.stderr}`).toBe(0);
      expect(ran.stdout.split("\n")[0]).toContain(mode);
      expect(ran.stdout).toContain("HTTP/1.1 200 OK");
      expect(ran.stdout).toContain("spiffe://cluster.local/ns/foo/sa/sleep");
      expect(ran.stdout).toContain("outbound_.8000_._.httpbin.bar.global");
      // The last of its processes may end a moment after the command.
      await eventually(
        () => run("pgrep", ["-fa", name]),
        ({ stdout }) => stdout === "",
        20_000,
      );
    }, 240_000);
  }
});

describe("a third cluster joins by one more folder", () => {
  let lab: TestLab;
  const folder = mkdtempSync(join(tmpdir(), "isthmus-three-"));

  beforeAll(async () => {
    cpSync(join(root, "samples/demo"), folder, { recursive: true });
    // cluster3 is like cluster2 with a namespace of another name, and cluster1 knows its httpbin too.
    mkdirSync(join(folder, "cluster3"));
    for (const file of ["bar.yaml", "httpbin.yaml"]) {
      const text = readFileSync(join(folder, "cluster2", file), "utf8");
      writeFileSync(join(folder, "cluster3", file), text.replaceAll(/\b(name|namespace): bar\b/g, "$1: third"));
    }
    const entry = readFileSync(join(folder, "cluster1/httpbin-bar.yaml"), "utf8");
    writeFileSync(
      join(folder, "cluster1/httpbin-third.yaml"),
      entry
        .replaceAll("httpbin-bar", "httpbin-third")
        .replaceAll("httpbin.bar.global", "httpbin.third.global")
        .replaceAll("240.0.0.2", "240.0.0.22")
        .replaceAll("CLUSTER2", "CLUSTER3"),
    );
    // A hundred services in each cluster, behind the pods that are there.
    for (const [name, namespace, app] of [
      ["cluster1", "foo", "sleep"],
      ["cluster2", "bar", "httpbin"],
      ["cluster3", "third", "httpbin"],
    ] as const) {
      const services = Array.from({ length: 100 }, (_, i) =>
        JSON.stringify({
          apiVersion: "v1",
          kind: "Service",
          metadata: { name: `svc-${i}`, namespace },
          spec: { ports: [{ name: "http", port: 8000, targetPort: 80 }], selector: { app } },
        }),
      );
      writeFileSync(join(folder, name, "services.yaml"), `${services.join("\n---\n")}\n`);
    }
    const entries = [2, 3].flatMap((n) =>
      Array.from({ length: 100 }, (_, i) =>
        JSON.stringify({
          apiVersion: "networking.istio.io/v1beta1",
          kind: "ServiceEntry",
          metadata: { name: `svc-${i}-${n}`, namespace: "foo" },
          spec: {
            hosts: [`svc-${i}.${n === 2 ? "bar" : "third"}.global`],
            location: "MESH_INTERNAL",
            resolution: "DNS",
            ports: [{ name: "http", number: 8000, protocol: "HTTP" }],
            endpoints: [{ address: `\${CLUSTER${n}_GW_ADDR}`, ports: { http: 15443 } }],
          },
        }),
      ),
    );
    writeFileSync(join(folder, "cluster1/entries.yaml"), `${entries.join("\n---\n")}\n`);
    lab = await upLab({ name: "three", folder, timeoutMs: 240_000 });
  }, 300_000);
  afterAll(async () => {
    await lab?.down();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  test("three clusters are ready", async () => {
    const status = await lab.status();
    expect(status.clusters.map(({ name, ready }) => [name, ready])).toEqual([
      ["cluster1", true],
      ["cluster2", true],
      ["cluster3", true],
    ]);
    expect(cluster(status, "cluster3").gateway.address).not.toBe(cluster(status, "cluster2").gateway.address);
  });

  for (const host of [
    "httpbin.bar.global",
    "httpbin.third.global",
    "svc-0.bar.global",
    "svc-99.third.global",
    "svc-57.bar.global",
  ]) {
    test(`${host} answers from its own cluster`, async () => {
      const ran = await lab.exec("cluster1", "sleep", "curl", "-s", "-m", "10", `${host}:8000/headers`);
      const cert = JSON.stringify(JSON.parse(ran.stdout || "{}"));
      expect(cert).toContain(`/ns/${host.includes("third") ? "third" : "bar"}/sa/httpbin`);
    });
  }
});
