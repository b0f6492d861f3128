import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import type { LabStatus } from "../../src/lab/index.ts";
import { askLab } from "../../src/lab/protocol.ts";
import { belongings, ended, isthmusIn, kill, nothingLeft, pidIn, start, supervisorOf, until } from "./belongings.ts";
import { eventually, root, run } from "./isthmus.ts";
import { cluster, remoteService, type TestLab, upLab } from "./lab.ts";
import { testIn } from "./requirements.ts";

const inNetns = await testIn("netns");
describe("a lab that is up", () => {
  let lab: TestLab;
  const folder = mkdtempSync(join(tmpdir(), "isthmus-life-"));
  const pods = async (name: string, workload: string) =>
    cluster(await lab.status(), name).pods.filter((pod) => pod.workload === workload);
  const call = () => lab.exec("cluster1", "sleep", "curl", "-sSI", "-m", "5", "http://httpbin.bar.global:8000/headers");

  beforeAll(async () => {
    cpSync(join(root, "samples/demo"), folder, { recursive: true });
    const args = ["--mode", "netns", "--egress-gateway", "cluster1"];
    lab = await upLab({ name: "life", folder, args });
  }, 240_000);
  afterAll(async () => {
    await lab?.down();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  inNetns("has an egress gateway in the cluster that asked for one, and in no other", async () => {
    expect(await pods("cluster1", "isthmus-egressgateway")).toMatchObject([{ ready: true, wanIp: "172.30.1.11" }]);
    expect(await pods("cluster2", "isthmus-egressgateway")).toEqual([]);
    const ready = await lab.exec("cluster1", "egressgateway", "curl", "-s", "http://127.0.0.1:15000/ready");
    expect(ready.stdout).toBe("ready\n");
  });

  /** The one process of this lab with these words in its command, other than `not`. */
  const processOf = async (words: string, not?: number) => {
    const found = await run("pgrep", ["-f", words]);
    const pids = found.stdout.trim().split("\n").filter(Boolean).map(Number);
    return pids.length === 1 && pids[0] !== not ? pids[0] : undefined;
  };
  interface Child {
    readonly it: string;
    /** What its command line matches, as `pgrep -f` reads it. */
    readonly words: () => Promise<string>;
    readonly inside: boolean;
    readonly of: (status: LabStatus) => {
      readonly ready: boolean;
      readonly restarts: number;
      readonly message?: string;
    };
  }
  const podOf = (status: LabStatus, workload: string) =>
    cluster(status, "cluster2").pods.find((pod) => pod.workload === workload)!;
  const children: readonly Child[] = [
    {
      it: "an application",
      words: async () => `^${process.execPath} ${join(root, "dist/lab/apps/httpbin.js")}$`,
      // Labs of other tests may run the same program: the one in this lab is found from inside it.
      inside: true,
      of: (status) => podOf(status, "httpbin"),
    },
    {
      it: "a sidecar",
      words: async () => `main.js proxy .*--pod ${(await pods("cluster2", "httpbin"))[0]!.name} .*/${lab.name}/`,
      inside: false,
      of: (status) => podOf(status, "httpbin"),
    },
    {
      it: "a control plane",
      words: async () => `main.js controlplane --cluster cluster2 .*/${lab.name}/`,
      inside: false,
      of: (status) => cluster(status, "cluster2").controlPlane,
    },
  ];
  for (const { it, words, inside, of } of children) {
    inNetns(
      `${it} that is killed comes back, more slowly each time, and the status says so`,
      async () => {
        const look = async () => {
          const { code, stdout } = await lab.command("status", "-o", "json");
          return { code, child: of(JSON.parse(stdout) as LabStatus) };
        };
        // An earlier run of this may have left it on its way back.
        const before = (await eventually(look, ({ child }) => child.ready, 90_000)).seen.child;
        const text = await words();
        // Asked all the while: how long each wait is depends on the machine and on chance.
        const codes = new Set<number | null>();
        const messages = new Set<string>();
        let killing = true;
        const watching = (async () => {
          while (killing) {
            const { code, child } = await look();
            if (!child.ready) codes.add(code);
          }
        })();
        // The shortest wait is over before a command has started, so what is said meanwhile is asked of the lab itself.
        const listening = (async () => {
          while (killing) {
            const child = of(await askLab(lab.name, { op: "status" }));
            if (!child.ready) messages.add(child.message ?? "");
            await new Promise((resolve) => setTimeout(resolve, 10));
          }
        })();
        const looked = Promise.all([watching, listening]);
        looked.catch(() => {}); // Said below, by who waits for it.
        try {
          let last: number | undefined;
          for (let time = 0; time < 3; time++) {
            if (inside) {
              const { seen } = await eventually(
                () => lab.exec("cluster2", "httpbin", "pgrep", "-f", text),
                ({ stdout }) => /^\d+\n$/.test(stdout) && Number(stdout) !== last,
                60_000,
              );
              last = Number(seen.stdout);
              await lab.exec("cluster2", "httpbin", "kill", "-9", String(last));
            } else {
              const { seen } = await eventually(
                () => processOf(text, last),
                (pid) => pid !== undefined,
                60_000,
              );
              last = seen!;
              process.kill(last, "SIGKILL");
            }
          }
          await eventually(
            look,
            ({ code, child }) => child.ready && code === 0 && child.restarts === before.restarts + 3,
            90_000,
          );
        } finally {
          killing = false;
          await Promise.allSettled([watching, listening]);
        }
        await looked;
        expect([...messages].join("\n")).toMatch(/ended by SIGKILL, \d+ in a row|a program of it ended/);
        for (const code of codes) expect(code).toBe(1);
        const answered = await eventually(call, ({ stdout }) => stdout.startsWith("HTTP/1.1 200"), 60_000);
        expect(answered.seen.code).toBe(0);
      },
      400_000,
    );
  }

  inNetns(
    "a changed Deployment is rolled out: the new pod serves before the old one goes, and no call fails",
    async () => {
      const [old] = await pods("cluster2", "httpbin");
      const stop = join(lab.dir, `stop-${Math.random()}`);
      const load = lab.execFor(
        200,
        "cluster1",
        "sleep",
        process.execPath,
        join(root, "checks/e2e/tools/load.mjs"),
        "http://httpbin.bar.global:8000/get",
        "--connections",
        "4",
        "--requests",
        "200",
        "--seconds",
        "150",
        "--stop-file",
        stop,
      );
      const file = join(folder, "cluster2/httpbin.yaml");
      const text = readFileSync(join(root, "samples/demo/cluster2/httpbin.yaml"), "utf8");
      expect(text).toContain("        version: v1\n    spec:");
      // Another value each time, so that a second run of this test changes something too.
      const round = `        version: v1\n        round: r${Date.now()}\n    spec:`;
      writeFileSync(file, text.replace("        version: v1\n    spec:", round));
      const seen: string[] = [];
      try {
        await eventually(
          async () => {
            const now = await pods("cluster2", "httpbin");
            seen.push(now.map(({ name, ready }) => `${name === old!.name ? "old" : "new"} ${ready}`).join(", "));
            return now;
          },
          (now) => now.length === 1 && now[0]!.name !== old!.name && now[0]!.ready,
          120_000,
        );
      } finally {
        writeFileSync(stop, "");
      }
      const result = JSON.parse((await load).stdout || "{}") as { failures?: readonly unknown[]; failed?: number };
      expect(result).toMatchObject({ failures: [] });
      expect(seen.every((moment) => moment.includes("true"))).toBe(true);
    },
  );
});

const inUserns = await testIn("userns");
describe("where the proxy cannot be told from its application", () => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await upLab({ name: "circle", args: ["--mode", "userns"] });
  }, 240_000);
  afterAll(() => lab?.down(), 60_000);

  /** The entry is there, and calls are answered. */
  async function answers(): Promise<void> {
    const gateway = cluster(await lab.status(), "cluster2").gateway.address;
    const entry = remoteService({ host: "httpbin.bar.global", gateway, vip: "240.0.0.2" });
    expect((await lab.apply("cluster1", entry)).code).toBe(0);
    const url = "http://httpbin.bar.global:8000/headers";
    await eventually(
      () => lab.exec("cluster1", "sleep", "curl", "-sSI", "-m", "5", url),
      ({ stdout }) => stdout.startsWith("HTTP/1.1 200"),
      60_000,
    );
  }

  /** How often the caller's proxy has said so. */
  const refusals = async () => {
    const { stdout } = await lab.command("logs", "cluster1", "sleep", "-c", "istio-proxy");
    return stdout.split("\n").filter((line) => line.includes("the call would go round in a circle")).length;
  };

  inUserns(
    "a virtual address that no entry claims any more is refused, and nothing goes round in a circle",
    async () => {
      await answers();
      const before = await refusals();
      const script = join(lab.dir, "calls.mjs");
      const [answered, stop] = ["answered", "stop"].map((name) => join(lab.dir, `${name}-${Math.random()}`));
      // Goes on calling the address while the entry is deleted, and says how calls ended.
      writeFileSync(
        script,
        `
      import { existsSync, writeFileSync } from "node:fs";
      import { connect } from "node:net";
      const [answered, stop] = process.argv.slice(2);
      const ends = {};
      const one = () => new Promise((resolve) => {
        const socket = connect(8000, "240.0.0.2");
        let got = "";
        const done = (how) => { socket.destroy(); if (how === "answered") writeFileSync(answered, ""); ends[how] = (ends[how] ?? 0) + 1; resolve(how); };
        socket.setTimeout(20000, () => done("timeout"));
        socket.on("connect", () => socket.write("HEAD /headers HTTP/1.1\\r\\nHost: httpbin.bar.global\\r\\nConnection: close\\r\\n\\r\\n"));
        socket.on("data", (data) => { got += data; });
        socket.on("error", () => done("refused"));
        socket.on("close", () => done(got.startsWith("HTTP/1.1 200") ? "answered" : "refused"));
      });
      const until = performance.now() + 90000;
      const calls = async () => { while (performance.now() < until && !existsSync(stop)) { await one(); await new Promise((r) => setTimeout(r, 50)); } };
      await Promise.all([calls(), calls(), calls(), calls()]);
      console.log(JSON.stringify({ ends, last: await one() }));`,
      );
      const calls = lab.exec("cluster1", "sleep", process.execPath, script, answered!, stop!);
      try {
        // The entry goes once calls are on their way; a program may take long to start, and a command too.
        await until("a call to be answered", () => existsSync(answered!));
        expect((await lab.delete("cluster1", "-n", "foo", "se", "httpbin-bar")).code).toBe(0);
        await new Promise((resolve) => setTimeout(resolve, 2_000));
      } finally {
        writeFileSync(stop!, "");
      }
      const ran = await calls;
      const said = JSON.parse(ran.stdout || "{}") as { ends: Record<string, number>; last: string };
      expect(said.last, ran.stdout).toBe("refused");
      expect(said.ends["answered"]).toBeGreaterThan(0);
      expect(said.ends["refused"]).toBeGreaterThan(0);
      expect(said.ends["timeout"] ?? 0).toBe(0);
      const proxy = (path: string) =>
        lab.command(
          "exec",
          "cluster1",
          "sleep",
          "-c",
          "istio-proxy",
          "--",
          "curl",
          "-s",
          `http://127.0.0.1:15000${path}`,
        );
      const open = Number(/^process_open_fds (\d+)/m.exec((await proxy("/stats/prometheus")).stdout)?.[1]);
      expect(open).toBeLessThan(100);
      const { seen } = await eventually(refusals, (count) => count > before, 30_000);
      // Each refused call is one connection to the proxy, not a chain of them.
      expect(seen - before).toBeLessThanOrEqual(said.ends["refused"]! + 1);
    },
  );

  inUserns("the entry applied again answers again", answers);
});

describe("when a lab that is up ends, however it does, nothing is left", async () => {
  const home = mkdtempSync(join(tmpdir(), "ilab-"));
  afterAll(() => rmSync(home, { recursive: true, force: true }));

  const ends = [
    { mode: "netns", end: "kill -9 of the keeper" },
    { mode: "userns", end: "kill -9 of the supervisor" },
    { mode: "explicit", end: "Ctrl-C of the demo" },
    { mode: "explicit", end: "kill -9 of the keeper" },
  ] as const;
  for (const { mode, end } of ends) {
    const inMode = await testIn(mode);
    inMode(
      `${end} in mode ${mode}`,
      async () => {
        const lab = start(home, mode, end === "Ctrl-C of the demo" ? ["demo"] : ["lab", "up"]);
        try {
          if (end === "Ctrl-C of the demo") {
            await until(
              "the demo to stay up",
              () => lab.said().includes("Ctrl-C") || lab.up.exitCode !== null,
              120_000,
            );
            expect(lab.up.exitCode, lab.said()).toBe(null);
          } else {
            await ended(lab.up);
            expect(lab.up.exitCode, lab.said()).toBe(0);
          }
          const before = belongings(lab.folder);
          expect(before.members.length).toBeGreaterThan(5);
          if (end === "Ctrl-C of the demo") {
            lab.up.kill("SIGINT");
            await ended(lab.up);
            expect(lab.up.exitCode, lab.said()).toBe(0);
            expect(existsSync(lab.folder)).toBe(false);
          } else kill(end === "kill -9 of the keeper" ? pidIn(lab.folder, "keeper.pid") : supervisorOf(lab.folder));
          // The folder of a lab whose keeper was killed goes with the next command, once its processes have ended.
          if (end === "kill -9 of the keeper") {
            await until("its supervisor to end", () => supervisorOf(lab.folder) === undefined, 60_000);
            isthmusIn(home, "lab", "list");
          }
          await nothingLeft(lab, before);
        } finally {
          isthmusIn(home, "lab", "down", "--name", lab.name);
        }
      },
      400_000,
    );
  }
});
