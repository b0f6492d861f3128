import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, run } from "./isthmus.ts";
import { cluster, remoteService, type TestLab, upLab } from "./lab.ts";

/** A proxy that is killed while nobody could tell it anything comes back with what it was told last. */
describe("a proxy killed while its control plane is away", () => {
  let lab: TestLab;
  let gateway: string;
  let stateFolder: string;

  beforeAll(async () => {
    lab = await upLab({ name: "restart", args: ["--mode", "netns"] });
    const status = await lab.status();
    gateway = cluster(status, "cluster2").gateway.address;
    ({ stateFolder } = status);
  }, 240_000);
  afterAll(() => lab?.down(), 60_000);

  const call = () =>
    lab
      .exec("cluster1", "sleep", "curl", "-sI", "-m", "3", "httpbin.bar.global:8000/headers")
      .then((ran) => ran.stdout);
  const works = (head: string) => /^HTTP\/1\.1 200/.test(head);

  /** Processes of this lab by what is in their command lines; seen from outside it. */
  const pidOf = async (pattern: string): Promise<number> => {
    const found = await run("pgrep", ["-f", pattern]);
    const pids = found.stdout.trim().split("\n").filter(Boolean);
    expect(pids.length, `processes "${pattern}"`).toBe(1);
    return Number(pids[0]);
  };
  const controlPlane = (name: string) => pidOf(`main.js controlplane --cluster ${name} .*/${lab.name}/`);
  const proxy = (pod: string, name: string) =>
    pidOf(`main.js proxy .*--pod ${pod}-[^ ]* .*--cluster ${name} .*/${lab.name}/`);

  /** The folder of what a proxy keeps, once it has kept all: nothing waits longer than ten seconds to be written. */
  async function kept(pod: string, name: string): Promise<string> {
    const index = name.replace("cluster", "");
    const file = new RegExp(`/${index}-\\d+/state/${pod}-[^/]*/configuration\\.state$`);
    const find = async () => {
      const found = readdirSync(stateFolder, { recursive: true, encoding: "utf8" }).find((path) => file.test(path));
      return found === undefined ? undefined : join(stateFolder, found);
    };
    const { seen } = await eventually(
      find,
      (path) => path !== undefined && Date.now() - statSync(path).mtimeMs > 11_000,
      60_000,
    );
    const folder = join(seen!, "..");
    expect(readdirSync(folder)).toContain("certificate.state");
    return folder;
  }

  const proxies = [
    { it: "a sidecar of the caller", pod: "sleep", of: "cluster1" },
    { it: "a gateway", pod: "(istio-|isthmus-)?ingressgateway", of: "cluster2" },
    { it: "a sidecar of the service", pod: "httpbin", of: "cluster2" },
  ] as const;
  for (const { it, pod, of } of proxies) {
    test(`${it} serves again within seconds`, async () => {
      // An earlier run of this may have left it before it served again.
      await eventually(call, works, 60_000);
      await kept(pod, of);
      const plane = await controlPlane(of);
      const killed = await proxy(pod, of);
      process.kill(plane, "SIGSTOP");
      try {
        process.kill(killed, "SIGKILL");
        // It is another process that answers, not the one that has not died yet.
        const { seen: next } = await eventually(
          () => run("pgrep", ["-f", `main.js proxy .*--pod ${pod}-[^ ]* .*--cluster ${of} .*/${lab.name}/`]),
          ({ stdout }) => stdout.trim() !== "" && stdout.trim() !== String(killed),
          60_000,
        );
        const { tookMs } = await eventually(call, works, 60_000);
        console.log(`${it}: ${Math.round(tookMs)} ms after its start (process ${next.stdout.trim()})`);
        if (of === "cluster1") {
          const names = await lab.exec("cluster1", "sleep", "getent", "hosts", "httpbin.bar.global");
          expect(names.stdout).toMatch(/^240\./);
        }
        expect((await run("ps", ["-o", "state=", "-p", String(plane)])).stdout.trim()).toBe("T");
      } finally {
        process.kill(plane, "SIGCONT");
      }
    });
  }

  test("what is written when the control plane is back arrives, and what is deleted goes", async () => {
    expect(
      await lab.apply("cluster1", remoteService({ host: "reviews.bar.global", gateway, vip: "240.0.0.77" })),
    ).toMatchObject({ code: 0 });
    const resolves = async () => (await lab.exec("cluster1", "sleep", "getent", "hosts", "reviews.bar.global")).stdout;
    await eventually(resolves, (text) => text.includes("240.0.0.77"), 30_000);
    await lab.delete("cluster1", "-n", "foo", "serviceentry", "reviews-bar");
    await eventually(resolves, (text) => text === "", 30_000);
    await eventually(call, works, 30_000);
  });

  test("what is kept is its user's alone, and no other proxy's key is in it", async () => {
    const folder = await kept("sleep", "cluster1");
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    for (const name of ["configuration.state", "certificate.state"]) {
      expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
    }
    expect(readFileSync(join(folder, "configuration.state")).includes("PRIVATE KEY")).toBe(false);
    expect(readFileSync(join(folder, "certificate.state"), "latin1").match(/BEGIN [A-Z ]*PRIVATE KEY/g)).toHaveLength(
      1,
    );
  });
});
