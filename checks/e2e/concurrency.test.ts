import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, run } from "./isthmus.ts";
import { cluster, remoteService, type TestLab, upLab } from "./lab.ts";

const get = (lab: TestLab, path: string) =>
  lab.exec("cluster1", "sleep", "curl", "-s", "-m", "5", `http://127.0.0.1:15000${path}`).then(({ stdout }) => stdout);

/** The value of one series. */
const value = (text: string, series: string) =>
  Number(
    text
      .split("\n")
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length + 1),
  );

describe("proxies on two cores", () => {
  let lab: TestLab;
  let gateway: string;

  beforeAll(async () => {
    // Certificates that are renewed all the time, so that every call below may meet a rotation.
    lab = await upLab({ name: "cores", args: ["--mode", "netns", "--concurrency", "2", "--workload-cert-ttl", "30s"] });
    gateway = cluster(await lab.status(), "cluster2").gateway.address;
  }, 240_000);
  afterAll(() => lab?.down(), 60_000);

  const proxyOf = async (pod: string, name: string) =>
    Number(
      (
        await run("pgrep", ["-f", `main.js proxy .*--pod ${pod}-[^ ]* .*--cluster ${name} .*/${lab.name}/`])
      ).stdout.trim(),
    );
  const workersOf = async (proxy: number) =>
    (await run("pgrep", ["-P", String(proxy), "-f", "worker-main.js"])).stdout.trim().split("\n").filter(Boolean);
  /** So many calls one after the other, each on a connection of its own; the codes that are not 200. */
  const calls = async (count: number, host = "httpbin.bar.global:8000") => {
    const script = `for i in $(seq ${count}); do curl -s -o /dev/null -m 10 -w '%{http_code}\\n' ${host}/headers; done`;
    const { stdout } = await lab.exec("cluster1", "sleep", "sh", "-c", script);
    const codes = stdout.trim().split("\n");
    expect(codes).toHaveLength(count);
    return codes.filter((code) => code !== "200");
  };

  test("every proxy has two workers, and calls go through them across the clusters", async () => {
    for (const [pod, name] of [
      ["sleep", "cluster1"],
      ["(istio-|isthmus-)?ingressgateway", "cluster2"],
      ["httpbin", "cluster2"],
    ] as const)
      expect(await workersOf(await proxyOf(pod, name)), `${pod} of ${name}`).toHaveLength(2);
    const stats = () => get(lab, "/stats/prometheus");
    const answered = (text: string) => value(text, 'isthmus_http_requests_total{code_class="2xx",flag="-"}') || 0;
    const before = answered(await stats());
    expect(await calls(20)).toEqual([]);
    const { seen } = await eventually(stats, (text) => answered(text) === before + 20, 20_000);
    expect(value(seen, "isthmus_proxy_workers")).toBe(2);
  });

  test("connections are shared by both workers, and views and counts are sums over them", async () => {
    const succeeded = async () => {
      const clusters = JSON.parse(await get(lab, "/clusters")) as { name: string; endpoints: { success: number }[] }[];
      return clusters.find(({ name }) => name === "outbound|8000||httpbin.bar.global")?.endpoints[0]?.success ?? 0;
    };
    const before = await succeeded();
    const stop = join(lab.dir, `stop-${Math.random()}`);
    const script =
      'const net = require("net"); for (let i = 0; i < 60; i++) { const s = net.connect(8000, "httpbin.bar.global");' +
      's.write("GET /headers HTTP/1.1\\r\\nhost: httpbin.bar.global:8000\\r\\n\\r\\n"); s.on("data", () => {}); }' +
      "setTimeout(() => process.exit(), 100000); const { existsSync } = require('fs');" +
      "setInterval(() => existsSync(process.argv[1]) && process.exit(), 100)";
    const holding = lab.exec("cluster1", "sleep", process.execPath, "-e", script, stop);
    try {
      const { seen } = await eventually(
        () => get(lab, "/stats/prometheus"),
        (text) => value(text, 'isthmus_proxy_connections_active{listener="virtualOutbound"}') === 60,
        40_000,
      );
      const shares = [1, 2].map((worker) => value(seen, `isthmus_proxy_worker_connections{worker="${worker}"}`));
      console.log(`60 connections at once: ${shares.join(" and ")}`);
      expect(shares[0]! + shares[1]!).toBe(60);
      expect(Math.min(...shares)).toBeGreaterThan(0);
      const listeners = JSON.parse(await get(lab, "/listeners")) as { chains: { open: number }[] }[];
      expect(listeners.flatMap(({ chains }) => chains).reduce((sum, { open }) => sum + open, 0)).toBe(60);
      // A connection is there before its answer is.
      await eventually(succeeded, (now) => now === before + 60, 20_000);
    } finally {
      writeFileSync(stop, "");
      await holding;
    }
  });

  test("a worker that is killed is replaced, and only its own connections are lost", async () => {
    const proxy = await proxyOf("httpbin", "cluster2");
    const before = await workersOf(proxy);
    const running = calls(60);
    running.catch(() => {}); // Said below, by who waits for it.
    await new Promise((resolve) => setTimeout(resolve, 300));
    process.kill(Number(before[0]), "SIGKILL");
    const failed = await running;
    // One at a time is on its way, so one at most was with the worker that died; and a proxy tries again what it may.
    expect(failed.length).toBeLessThanOrEqual(1);
    await eventually(
      () => workersOf(proxy),
      (now) => now.length === 2 && !now.includes(before[0]!) && now.includes(before[1]!),
      60_000,
    );
    const { stdout } = await lab.command("logs", "cluster2", "httpbin", "-c", "istio-proxy");
    expect(stdout).toMatch(/"why":"was ended by SIGKILL".*"event":"worker ended/);
  });

  test("configuration reaches all workers, and no call fails while it changes", async () => {
    const running = calls(60);
    running.catch(() => {}); // Said below, by who waits for it.
    for (const [index, vip] of ["240.0.0.81", "240.0.0.82", "240.0.0.83"].entries()) {
      const host = `extra${index}.bar.global`;
      expect(await lab.apply("cluster1", remoteService({ host, gateway, vip }))).toMatchObject({ code: 0 });
    }
    const names = () => lab.exec("cluster1", "sleep", "getent", "hosts", "extra2.bar.global");
    await eventually(names, ({ stdout }) => stdout.includes("240.0.0.83"), 60_000);
    for (const index of [0, 1, 2]) await lab.delete("cluster1", "-n", "foo", "serviceentry", `extra${index}-bar`);
    expect(await running).toEqual([]);
  });

  test("certificates are renewed in all workers without a file, and no call fails meanwhile", async () => {
    // Longer than any certificate of the beginning is good for.
    const end = performance.now() + 35_000;
    const failed: string[] = [];
    while (performance.now() < end) failed.push(...(await calls(20)));
    expect(failed).toEqual([]);
  });

  test("a proxy that is told to stop takes its workers with it, and one that is killed too", async () => {
    const proxy = await proxyOf("sleep", "cluster1");
    const workers = await workersOf(proxy);
    process.kill(proxy, "SIGKILL");
    const gone = async () =>
      (await run("ps", ["-o", "pid=", "-p", workers.join(",")])).stdout.trim().split("\n").filter(Boolean);
    await eventually(gone, (left) => left.length === 0, 60_000);
    const next = await eventually(
      () => proxyOf("sleep", "cluster1"),
      (pid) => pid > 0 && pid !== proxy,
      60_000,
    );
    const ready = () => get(lab, "/ready");
    await eventually(ready, (text) => text === "ready\n", 60_000);
    const others = await workersOf(next.seen);
    process.kill(next.seen, "SIGTERM");
    await eventually(
      async () => (await run("ps", ["-o", "pid=", "-p", [...others, next.seen].join(",")])).stdout.trim(),
      (left) => left === "",
      60_000,
    );
    await eventually(
      () => calls(1),
      (failed) => failed.length === 0,
      60_000,
    );
  });
});

describe("explicit proxies on two cores", () => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await upLab({ name: "cores-x", args: ["--explicit", "--concurrency", "2"] });
  }, 240_000);
  afterAll(() => lab?.down(), 60_000);

  test("callers that name their destination find it, whichever worker they meet", async () => {
    for (let i = 0; i < 10; i++) {
      const ran = await lab.exec("cluster1", "sleep", "curl", "-sI", "-m", "5", "httpbin.bar.global:8000/headers");
      expect(ran.stdout).toMatch(/^HTTP\/1\.1 200/);
    }
  });
});
