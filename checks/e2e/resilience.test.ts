import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, isthmus, root, run } from "./isthmus.ts";
import { cluster, remoteService, type TestLab, upLab } from "./lab.ts";

/** Nothing that happens around the data path may fail a request. */
describe("under change", () => {
  let lab: TestLab;
  let gateway: string;
  const load = join(root, "checks/e2e/tools/load.mjs");

  beforeAll(async () => {
    // Long enough that a control plane may be away for as long as its start takes, wherever in a certificate's life it goes.
    lab = await upLab({ name: "resilient", args: ["--mode", "netns", "--workload-cert-ttl", "40s"] });
    gateway = cluster(await lab.status(), "cluster2").gateway.address;
  }, 240_000);
  afterAll(() => lab?.down(), 60_000);

  const requests = (...args: string[]) =>
    isthmus(
      [
        "lab",
        "exec",
        "--name",
        lab.name,
        "cluster1",
        "sleep",
        "--",
        process.execPath,
        load,
        "http://httpbin.bar.global:8000/get",
        ...args,
      ],
      { timeoutMs: 420_000 },
    );
  /** From outside the lab, as nobody inside it could: the lab starts a killed one again, as Kubernetes would. */
  const signalControlPlane = async (name: string, signal: "KILL" | "STOP" | "CONT") => {
    // One that was killed may be on its way back.
    const { seen: pids } = await eventually(
      async () => {
        const found = await run("pgrep", ["-f", `main.js controlplane --cluster ${name} .*/${lab.name}/`]);
        return found.stdout.trim().split("\n").filter(Boolean);
      },
      ({ length }) => length === 1,
      60_000,
    );
    process.kill(Number(pids[0]), `SIG${signal}`);
  };

  interface Size {
    readonly memory: number;
    readonly descriptors: number;
  }
  async function sizes(): Promise<Record<string, Size>> {
    const places = [
      ["cluster1", "sleep"],
      ["cluster2", "ingressgateway"],
      ["cluster2", "httpbin"],
    ] as const;
    const found = await Promise.all(
      places.map(async ([name, workload]) => {
        const text = (
          await lab.command(
            "exec",
            name,
            workload,
            "-c",
            "istio-proxy",
            "--",
            "curl",
            "-s",
            "http://127.0.0.1:15000/stats/prometheus",
          )
        ).stdout;
        const value = (metric: string) => Number(new RegExp(`^${metric} (\\S+)`, "m").exec(text)?.[1]);
        return [
          `${name}/${workload}`,
          { memory: value("process_resident_memory_bytes"), descriptors: value("process_open_fds") },
        ] as const;
      }),
    );
    return Object.fromEntries(found);
  }

  test("20,000 requests at 64 connections: none fails while configuration, certificates and control planes change", async () => {
    // Warm first, so that what is compared is a running proxy with a running proxy.
    expect(JSON.parse((await requests("--connections", "64", "--requests", "5000")).stdout)).toMatchObject({
      failed: 0,
    });
    await new Promise((resolve) => setTimeout(resolve, 3000));
    const before = await sizes();

    const stop = join(lab.dir, "stop");
    rmSync(stop, { force: true });
    const many = ["--connections", "64", "--requests", "20000", "--seconds", "360"];
    const running = requests(...many, "--stop-file", stop);
    running.catch(() => {}); // Said below, by who waits for it.
    let changes = 0;
    try {
      for (let i = 0; i < 50; i++) {
        const entry =
          i % 2 === 0
            ? remoteService({ host: `other-${i % 7}.bar.global`, gateway })
            : remoteService({
                host: "httpbin.bar.global",
                gateway,
                vip: "240.0.0.2",
                ports: [
                  { name: "http1", number: 8000, protocol: "http" },
                  { name: "extra", number: 8100 + i, protocol: "http" },
                ],
              });
        const applied = await lab.apply("cluster1", entry);
        expect(applied, applied.stderr).toMatchObject({ code: 0 });
        changes++;
        if (i === 20) await signalControlPlane("cluster1", "KILL");
        if (i === 30) await signalControlPlane("cluster2", "KILL");
      }
    } finally {
      writeFileSync(stop, "");
      await Promise.allSettled([running]);
    }
    const ran = await running;
    const result = JSON.parse(ran.stdout || JSON.stringify({ problem: ran.stderr }));
    console.log("under change:", JSON.stringify({ ...result, changes }));
    expect(result, ran.stdout).toMatchObject({ failed: 0, failures: [] });
    expect(result.requests).toBeGreaterThanOrEqual(20_000);
    expect(changes).toBe(50);

    // Idle connections of the load are closed by then; memory is measured after the collector had its chance.
    const { seen: after } = await eventually(
      sizes,
      (now) => Object.entries(now).every(([place, size]) => size.descriptors <= before[place]!.descriptors + 8),
      90_000,
    );
    console.log("sizes before and after:", JSON.stringify({ before, after }));
    for (const [place, size] of Object.entries(after)) {
      expect(size.memory, `memory of ${place}`).toBeLessThan(before[place]!.memory * 1.25 + 20 * 2 ** 20);
    }
  }, 900_000);

  test("certificates were rotated while it ran", async () => {
    const serial = async () =>
      /"serial(?:Number)?": ?"([^"]+)"/.exec(
        (
          await lab.command(
            "exec",
            "cluster1",
            "sleep",
            "-c",
            "istio-proxy",
            "--",
            "curl",
            "-s",
            "http://127.0.0.1:15000/certs",
          )
        ).stdout,
      )?.[1];
    const first = await serial();
    expect(first).toBeTruthy();
    await eventually(serial, (now) => now !== undefined && now !== first, 90_000);
  });

  test("control planes away: known services go on, new calls too, names resolve; they come back without a reset", async () => {
    const stop = join(lab.dir, "stop-away");
    rmSync(stop, { force: true });
    const planes = ["cluster1", "cluster2"];
    // Certificates must outlive the absence, which is what the next lab is for; here it is shorter than their life.
    const running = requests("--connections", "8", "--requests", "1000", "--stop-file", stop);
    running.catch(() => {}); // Said below, by who waits for it.
    try {
      try {
        for (const name of planes) await signalControlPlane(name, "STOP");
        for (let i = 0; i < 5; i++) {
          const head = await lab.exec("cluster1", "sleep", "curl", "-sI", "-m", "8", "httpbin.bar.global:8000/headers");
          expect(head.stdout, head.stderr).toMatch(/200 OK/);
        }
      } finally {
        for (const name of planes) await signalControlPlane(name, "CONT");
      }
      await signalControlPlane("cluster1", "KILL");
      await eventually(
        () => lab.status(),
        (status) => cluster(status, "cluster1").controlPlane.ready,
        60_000,
      );
      // What is written after it came back arrives.
      await lab.apply("cluster1", remoteService({ host: "httpbin.bar.global", gateway, vip: "240.0.0.9" }));
      await eventually(
        () => lab.exec("cluster1", "sleep", "getent", "hosts", "httpbin.bar.global"),
        (ran) => ran.stdout.includes("240.0.0.9"),
        60_000,
      );
      await lab.apply("cluster1", remoteService({ host: "httpbin.bar.global", gateway, vip: "240.0.0.2" }));
    } finally {
      writeFileSync(stop, "");
      await Promise.allSettled([running]);
    }
    const result = JSON.parse((await running).stdout);
    expect(result).toMatchObject({ failed: 0 });
  }, 400_000);
});
