import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, type TestContext, test } from "vitest";
import type { LabMode } from "../../src/lab/index.ts";
import { missingOf, needs, type Requirement } from "../requirements.ts";
import { eventually, isthmus, root } from "./isthmus.ts";
import { cluster, remoteService, type TestLab, upLab } from "./lab.ts";
import { flowsToPort } from "./pcap.ts";

const modes: ReadonlyArray<{ readonly mode: LabMode; readonly needs: readonly Requirement[] }> = [
  { mode: "netns", needs: ["root", "netns", "iptables", "curl"] },
  { mode: "userns", needs: ["userns", "iptables", "curl"] },
  { mode: "explicit", needs: ["curl"] },
];

/** The walkthrough's example in each mode: the same list, as far as a mode has what a line of it speaks of. */
describe.each(modes)(
  "mode $mode: a call from cluster1 to httpbin.bar.global in cluster2",
  ({ mode, needs: wanted }) => {
    const inNamespaces = mode !== "explicit";
    /** A line of the list that a mode has nothing for is not there; it is no skip. */
    const testWhere =
      (applies: boolean) =>
      (name: string, run: (context: { readonly skip: TestContext["skip"] }) => Promise<void>, timeoutMs?: number) => {
        if (applies) test(name, ({ skip }) => run({ skip }), timeoutMs);
      };
    const missing = missingOf(wanted);
    // A mode that this machine cannot have is skipped with its reason, or fails where it is required.
    if (missing) {
      test(`comes up`, ({ skip }) => skip(missing));
      return;
    }
    let lab: TestLab;
    let gateway: ReturnType<typeof cluster>["gateway"];
    const node = process.execPath;
    /** On loopback each gateway has a port of its own. */
    const theGateway = () => ({ gateway: gateway.address, gatewayPort: inNamespaces ? 15443 : gateway.nodePort });
    const app = (name: string) => join(root, `dist/lab/apps/${name}.js`);
    const sample = (name: string) => readFileSync(join(root, "samples", name), "utf8");
    const ready = (name: string, workload: string) =>
      eventually(
        async () => cluster(await lab.status(), name).pods.filter((pod) => pod.workload === workload),
        (pods) => pods.length > 0 && pods.every((pod) => pod.ready),
        60_000,
      );

    beforeAll(async () => {
      lab = await upLab({ name: `main-${mode}`, args: ["--mode", mode] });
      gateway = cluster(await lab.status(), "cluster2").gateway;
      for (const [sampleFile, workload] of [
        ["tcp-echo/tcp-echo.yaml", "tcp-echo"],
        ["grpc-echo/grpc-echo.yaml", "grpc-echo"],
      ] as const) {
        const applied = await lab.apply("cluster2", sample(sampleFile), "-n", "bar");
        expect(applied, applied.stderr).toMatchObject({ code: 0 });
        await ready("cluster2", workload);
      }
    }, 240_000);
    afterAll(() => lab?.down(), 60_000);

    const curl = (...args: string[]) => lab.exec("cluster1", "sleep", "curl", "-sS", "--max-time", "15", ...args);

    test("answers HTTP/1.1 200 OK", async () => {
      const head = await curl("-I", "httpbin.bar.global:8000/headers");
      expect(head.stdout, head.stderr).toMatch(/^HTTP\/1\.1 200 OK\r?\n/);
    });

    testWhere(inNamespaces)(
      "the pods of both clusters have addresses of one range, and cannot reach each other's",
      async () => {
        const status = await lab.status();
        const ips = (name: string) => cluster(status, name).pods.map((pod) => pod.ip.split(".").slice(0, 2).join("."));
        expect(new Set([...ips("cluster1"), ...ips("cluster2")]).size).toBe(1);
        const httpbin = cluster(status, "cluster2").pods.find((pod) => pod.workload === "httpbin")!;
        const direct = await lab.exec(
          "cluster1",
          "sleep",
          "curl",
          "-s",
          "-m",
          "2",
          "-o",
          "/dev/null",
          "-w",
          "%{http_code}",
          `http://${httpbin.ip}/headers`,
        );
        expect(direct.stdout).not.toBe("200");
      },
    );

    test("the caller's identity has crossed the gateway", async () => {
      const echo = JSON.parse((await curl("httpbin.bar.global:8000/headers")).stdout);
      const headers = Object.fromEntries(
        Object.entries<string>(echo.headers).map(([name, value]) => [name.toLowerCase(), value]),
      );
      expect(headers["x-forwarded-client-cert"]).toContain("URI=spiffe://cluster.local/ns/foo/sa/sleep");
      expect(headers["x-forwarded-client-cert"]).toContain("By=spiffe://cluster.local/ns/bar/sa/httpbin");
      expect(headers["x-request-id"]).toBeTruthy();
    });

    testWhere(mode === "netns")(
      "what crosses is TLS 1.2 or later, with the service's name as SNI and nothing readable",
      async ({ skip }) => {
        needs({ skip }, "tcpdump");
        const dir = mkdtempSync(join(tmpdir(), "isthmus-capture-"));
        const file = join(dir, "crossing.pcap");
        try {
          const stop = join(dir, "stop");
          const script = `
            tcpdump -i any -s 0 -U -Z root -w "$0" tcp port 15443 & pid=$!
            for _ in $(seq 900); do [ -e "$1" ] && break; kill -0 $pid || break; sleep 0.1; done
            kill $pid; wait $pid`;
          const capture = lab.exec("cluster2", "ingressgateway", "sh", "-c", script, file, stop);
          const written = async () => (existsSync(file) ? statSync(file).size : 0);
          try {
            // The file's own header is written once packets are seen.
            await eventually(written, (bytes) => bytes >= 24, 60_000);
            for (let i = 0; i < 3; i++)
              expect((await curl("-H", "x-secret: not-for-the-wire", "httpbin.bar.global:8000/headers")).code).toBe(0);
            await eventually(written, (bytes) => bytes > 24, 30_000);
            // The system hands packets over in batches, up to a second late.
            await new Promise((resolve) => setTimeout(resolve, 2_000));
          } finally {
            writeFileSync(stop, "");
            await capture;
          }
          const bytes = readFileSync(file);
          expect(bytes.includes("not-for-the-wire")).toBe(false);
          expect(bytes.includes("httpbin.bar.global:8000")).toBe(false);
          const flows = flowsToPort(bytes, 15443);
          expect(flows.length).toBeGreaterThan(0);
          for (const flow of flows) {
            expect(flow.onlyTlsRecords).toBe(true);
            // A connection from before the capture began has its hello outside it.
            if (flow.sni !== undefined) expect(flow.sni).toBe("outbound_.8000_._.httpbin.bar.global");
            if (flow.version !== undefined) expect(["TLSv1.2", "TLSv1.3"]).toContain(flow.version);
          }
        } finally {
          rmSync(dir, { recursive: true, force: true });
        }
      },
    );

    testWhere(inNamespaces)("the gateway holds no key but its own, and none for the services behind it", async () => {
      const dump = await lab.exec("cluster2", "ingressgateway", "curl", "-s", "http://127.0.0.1:15000/config_dump");
      expect(dump.stdout, dump.stderr).toContain("outbound_.8000_._.httpbin.bar.global");
      expect(dump.stdout).not.toMatch(/PRIVATE KEY/);
      const certs = await lab.exec("cluster2", "ingressgateway", "curl", "-s", "http://127.0.0.1:15000/certs");
      const uris = [...certs.stdout.matchAll(/spiffe:\/\/[^"\s]+/g)].map(([uri]) => uri);
      expect([...new Set(uris)]).toEqual([
        "spiffe://cluster.local/ns/isthmus-system/sa/isthmus-ingressgateway-service-account",
      ]);
    });

    test("any port of the name goes to the gateway's 15443, and TCP crosses with its half-close", async () => {
      const applied = await lab.apply(
        "cluster1",
        remoteService({
          host: "tcp-echo.bar.global",
          ...theGateway(),
          vip: "240.0.0.3",
          ports: [
            { name: "tcp", number: 9000, protocol: "TCP" },
            { name: "tcp-other", number: 9001, protocol: "TCP" },
          ],
        }),
      );
      expect(applied, applied.stderr).toMatchObject({ code: 0 });
      for (const port of [9000, 9001]) {
        const { seen } = await eventually(
          () =>
            lab.exec(
              "cluster1",
              "sleep",
              node,
              app("tcp-echo"),
              "client",
              `tcp-echo.bar.global:${port}`,
              "over the isthmus",
            ),
          (ran) => ran.stdout.includes("over the isthmus"),
          60_000,
        );
        expect(seen.stdout.trim()).toBe("hello over the isthmus");
      }
    });

    test("gRPC crosses: one call, and a thousand messages each way on one", async () => {
      const applied = await lab.apply(
        "cluster1",
        remoteService({
          host: "grpc-echo.bar.global",
          ...theGateway(),
          ports: [{ name: "grpc", number: 7070, protocol: "GRPC" }],
        }),
      );
      expect(applied, applied.stderr).toMatchObject({ code: 0 });
      const call = (...args: string[]) =>
        lab.exec("cluster1", "sleep", node, app("grpc-echo"), "client", "grpc-echo.bar.global:7070", ...args);
      const { seen } = await eventually(
        () => call("across"),
        (ran) => ran.code === 0,
        60_000,
      );
      expect(seen.stdout).toContain("across");
      const stream = await call("again", "--stream", "1000");
      expect(stream.code, stream.stderr).toBe(0);
      expect(stream.stdout.match(/again/g)?.length).toBeGreaterThanOrEqual(1000);
    });

    test("a WebSocket crosses", async () => {
      const ran = await lab.exec(
        "cluster1",
        "sleep",
        node,
        app("ws-client"),
        "ws://httpbin.bar.global:8000/ws",
        "both ways",
        "--count",
        "5",
      );
      expect(ran.code, ran.stderr).toBe(0);
      expect(ran.stdout).toContain("101");
      expect(ran.stdout.match(/both ways/g)?.length).toBe(5);
    });

    const gateways = [
      { it: "a node's address and node port", address: () => gateway.nodeAddress, port: () => gateway.nodePort },
      { it: "a host name", address: () => gateway.hostname, port: () => 15443 },
    ];
    for (const { it, address, port } of gateways) {
      testWhere(inNamespaces)(`the gateway may be given by ${it}`, async () => {
        const entry = remoteService({
          host: "httpbin.bar.global",
          gateway: address(),
          vip: "240.0.0.2",
          gatewayPort: port(),
        });
        const applied = await lab.apply("cluster1", entry);
        expect(applied, applied.stderr).toMatchObject({ code: 0 });
        const { seen } = await eventually(
          () =>
            lab.command(
              "exec",
              "cluster1",
              "sleep",
              "-c",
              "istio-proxy",
              "--",
              "curl",
              "-s",
              "http://127.0.0.1:15000/clusters",
            ),
          (ran) =>
            ran.stdout.includes(`:${port()}`) && (port() !== 15443 || !ran.stdout.includes(`:${gateway.nodePort}`)),
          60_000,
        );
        expect(seen.code).toBe(0);
        const head = await curl("-I", "httpbin.bar.global:8000/headers");
        expect(head.stdout, head.stderr).toMatch(/^HTTP\/1\.1 200 OK/);
      });
    }

    const spellings = ["httpbin.bar.global", "HTTPBIN.bar.global.", "httpbin.bar", "240.0.0.2"];
    for (const name of spellings) {
      test(`"${name}" is the same service`, async () => {
        const head = await curl("-I", `${name}:8000/headers`);
        expect(head.stdout, head.stderr).toMatch(/^HTTP\/1\.1 200 OK/);
      });
    }

    // Each far more than a proxy may keep.
    const size = mode === "netns" ? 1024 ** 3 : 256 * 1024 ** 2;
    test(`${size / 1024 ** 2} MiB pass each way, and the proxies stay small`, async () => {
      const url = "http://httpbin.bar.global:8000";
      const shell = (script: string) =>
        isthmus(["lab", "exec", "--name", lab.name, "cluster1", "sleep", "--", "sh", "-c", script], {
          timeoutMs: 240_000,
        });
      const before = inNamespaces ? await memory("cluster1", "sleep") : 0;
      const up = await shell(
        `head -c ${size} /dev/zero | curl -sS -o /dev/null -w '%{http_code}' -T - -X POST ${url}/post`,
      );
      expect(up.stdout, up.stderr).toBe("200");
      const down = await shell(`curl -sS '${url}/stream-bytes/${size}?chunk_size=65536' | wc -c`);
      expect(down.stdout.trim(), down.stderr).toBe(String(size));
      if (inNamespaces) expect((await memory("cluster1", "sleep")) - before).toBeLessThan(200 * 1024 * 1024);
    }, 600_000);

    async function memory(name: string, workload: string): Promise<number> {
      const text = await lab.command(
        "exec",
        name,
        workload,
        "-c",
        "istio-proxy",
        "--",
        "curl",
        "-s",
        "http://127.0.0.1:15000/stats/prometheus",
      );
      return Number(/^process_resident_memory_bytes (\S+)/m.exec(text.stdout)?.[1] ?? Number.NaN);
    }

    /** The entry as it was at first, and calls that are answered; an earlier run of a test may have left another. */
    async function answers(): Promise<void> {
      const entry = remoteService({ host: "httpbin.bar.global", ...theGateway(), vip: "240.0.0.2" });
      expect(await lab.apply("cluster1", entry)).toMatchObject({ code: 0 });
      // A call that still goes where nobody answers must not take all of the wait.
      await eventually(
        () => curl("-m", "2", "-o", "/dev/null", "-w", "%{http_code}", "httpbin.bar.global:8000/headers"),
        (ran) => ran.stdout === "200",
        30_000,
      );
    }

    test("editing the entry: new requests follow, one that runs finishes", async () => {
      await answers();
      const said = join(lab.dir, `slow-${Math.random()}`);
      const words = "-sv -m 60 -o /dev/null -w '%{http_code}' httpbin.bar.global:8000/delay/5";
      const slow = lab.exec("cluster1", "sleep", "sh", "-c", `curl ${words} 2> '${said}'`);
      // It runs once it has sent its request; a program may take long to start.
      await eventually(
        async () => (existsSync(said) ? readFileSync(said, "utf8") : ""),
        (text) => text.includes("> GET"),
        60_000,
      );
      await new Promise((resolve) => setTimeout(resolve, 700));
      await lab.apply(
        "cluster1",
        remoteService({ host: "httpbin.bar.global", gateway: "192.0.2.1", vip: "240.0.0.2" }),
      );
      const { seen } = await eventually(
        () =>
          lab.exec(
            "cluster1",
            "sleep",
            "curl",
            "-s",
            "-m",
            "1",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "httpbin.bar.global:8000/headers",
          ),
        (ran) => ran.stdout !== "200",
        30_000,
      );
      expect(seen.stdout).not.toBe("200");
      expect((await slow).stdout).toBe("200");
      await answers();
    });

    test("deleting the entry: name and traffic are gone, in the time that is printed", async () => {
      await answers();
      const deleted = await lab.delete("cluster1", "-n", "foo", "serviceentry", "httpbin-bar");
      expect(deleted.code, deleted.stderr).toBe(0);
      if (!inNamespaces) {
        const { tookMs } = await eventually(
          () => curl("-o", "/dev/null", "-w", "%{http_code}", "httpbin.bar.global:8000/headers"),
          (ran) => ran.stdout !== "200",
          60_000,
        );
        console.log(`mode '${mode}': gone ${Math.round(tookMs)} ms after the deletion, commands' starts included`);
        return;
      }
      // One shell asks again and again inside the pod, so that starting commands takes nothing from the two seconds.
      const file = join(lab.dir, "gone.mjs");
      writeFileSync(
        file,
        `
      import { lookup } from "node:dns/promises";
      import { connect } from "node:net";
      const started = performance.now();
      const resolves = () => lookup("httpbin.bar.global").then(() => true, () => false);
      const answers = () => new Promise((resolve) => {
        const socket = connect(8000, "240.0.0.2", () => socket.write("HEAD /headers HTTP/1.1\\r\\nHost: httpbin.bar.global\\r\\nConnection: close\\r\\n\\r\\n"));
        socket.setTimeout(500, () => { socket.destroy(); resolve(false); });
        socket.once("data", (data) => { socket.destroy(); resolve(String(data).startsWith("HTTP/1.1 200")); });
        socket.once("error", () => resolve(false));
        socket.once("close", () => resolve(false));
      });
      for (;;) {
        const [name, traffic] = [await resolves(), await answers()];
        const ms = Math.round(performance.now() - started);
        if ((!name && !traffic) || ms > 60000) { console.log(JSON.stringify({ name, traffic, ms })); break; }
      }`,
      );
      const ran = await lab.exec("cluster1", "sleep", node, file);
      const { name, traffic, ms } = JSON.parse(ran.stdout || "{}");
      expect({ name, traffic }).toEqual({ name: false, traffic: false });
      console.log(`mode '${mode}': name and traffic gone ${ms} ms after the deletion`);
    });

    testWhere(mode === "netns")(
      "every sample is good, but for the addresses of gateways that the lab fills in",
      async () => {
        const files = readdirSync(join(root, "samples"), { recursive: true, encoding: "utf8" }).filter((file) =>
          file.endsWith(".yaml"),
        );
        expect(files.length).toBeGreaterThan(10);
        for (const file of files) {
          const ran = await isthmus(["validate", "-f", join(root, "samples", file)]);
          const wrong = ran.stdout
            .split("\n")
            .filter((line) => /\(ISM\d+\)$/.test(line) && !line.includes("${CLUSTER"));
          expect(wrong).toEqual([]);
        }
      },
    );
  },
);
