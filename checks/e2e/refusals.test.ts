import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, isthmus, run } from "./isthmus.ts";
import { cluster, remoteService, type TestLab, upLab } from "./lab.ts";

/** What must not get through, and that whoever looks is told why. */
describe("what is refused", () => {
  let lab: TestLab;
  let gateway: string;
  const sni = "outbound_.8000_._.httpbin.bar.global";

  beforeAll(async () => {
    lab = await upLab({ name: "refuse", args: ["--mode", "netns"] });
    gateway = cluster(await lab.status(), "cluster2").gateway.address;
  }, 240_000);
  afterAll(() => lab?.down(), 60_000);

  const logs = async (name: string, workload: string) =>
    (await lab.command("logs", name, workload, "-c", "istio-proxy", "--tail", "400")).stdout;
  /** From where the other clusters' gateways can be reached: a gateway's own place. */
  const outside = (...command: string[]) => lab.exec("cluster1", "ingressgateway", ...command);

  const toTheGateway = [
    {
      it: "a server name that is not exposed",
      args: ["-servername", "outbound_.8000_._.nothing.bar.global"],
      says: /nothing\.bar\.global/,
    },
    {
      it: "the control plane's namespace",
      args: ["-servername", "outbound_.15012_._.isthmus.isthmus-system.global"],
      says: /isthmus-system/,
    },
    {
      it: "a cluster's name in place of a server name",
      args: ["-servername", "outbound|8000||httpbin.bar.svc.cluster.local"],
      says: /filter_chain_not_found/,
    },
    { it: "no server name", args: ["-noservername"], says: /filter_chain_not_found|no_sni/ },
  ];
  for (const { it, args, says } of toTheGateway) {
    test(`the gateway closes on ${it}, and its log says so`, async () => {
      const ran = await outside("timeout", "20", "openssl", "s_client", "-connect", `${gateway}:15443`, ...args);
      expect(ran.stdout).not.toContain("BEGIN CERTIFICATE");
      await eventually(
        () => logs("cluster2", "ingressgateway"),
        (text) => says.test(text),
        30_000,
      );
    });
  }

  const withoutHello = [
    { it: "plaintext HTTP", script: "printf 'GET / HTTP/1.1\\r\\nHost: httpbin.bar.global\\r\\n\\r\\n'" },
    { it: "random bytes", script: "head -c 512 /dev/urandom" },
  ];
  for (const { it, script } of withoutHello) {
    test(`the gateway closes on ${it} without asking anyone behind it`, async () => {
      const before = (await logs("cluster2", "ingressgateway")).split("\n").length;
      const ran = await outside(
        "bash",
        "-c",
        `exec 3<>/dev/tcp/${gateway}/15443; ${script} >&3; timeout 10 cat <&3 | wc -c`,
      );
      // Nothing, or a count of nothing: the shell itself may end while it writes to what was closed.
      expect(["", "0"]).toContain(ran.stdout.trim());
      await eventually(
        async () =>
          (await logs("cluster2", "ingressgateway"))
            .split("\n")
            .slice(before - 1)
            .join("\n"),
        (text) => /NR/.test(text) || /tls|hello/i.test(text),
        30_000,
      );
    });
  }

  test("a client certificate of another root is refused by the service's own sidecar", async () => {
    const other = join(lab.dir, "other");
    await isthmus(["ca", "root", "--out", other]);
    const openssl = (...args: string[]) => run("openssl", args);
    await openssl("ecparam", "-genkey", "-name", "prime256v1", "-out", `${other}/key.pem`);
    await openssl(
      "req",
      "-new",
      "-key",
      `${other}/key.pem`,
      "-subj",
      "/CN=x",
      "-addext",
      "subjectAltName=URI:spiffe://cluster.local/ns/foo/sa/sleep",
      "-out",
      `${other}/csr.pem`,
    );
    const signed = await openssl(
      "x509",
      "-req",
      "-in",
      `${other}/csr.pem`,
      "-CA",
      `${other}/ca-cert.pem`,
      "-CAkey",
      `${other}/ca-key.pem`,
      "-CAcreateserial",
      "-copy_extensions",
      "copy",
      "-days",
      "1",
      "-out",
      `${other}/cert.pem`,
    );
    expect(signed.code, signed.stderr).toBe(0);
    const ran = await outside(
      "bash",
      "-c",
      `(printf 'GET /headers HTTP/1.1\\r\\nHost: httpbin.bar.global\\r\\nConnection: close\\r\\n\\r\\n'; sleep 4) | timeout 20 openssl s_client -quiet -connect ${gateway}:15443 -servername ${sni} -alpn istio-http/1.1,istio -cert ${other}/cert.pem -key ${other}/key.pem`,
    );
    expect(ran.stdout).not.toContain("200 OK");
    await eventually(
      () => logs("cluster2", "httpbin"),
      (text) => /signed by an authority that is not trusted/.test(text),
      30_000,
    );
  });

  test("no client certificate at all is refused too", async () => {
    const ran = await outside(
      "bash",
      "-c",
      `(printf 'GET /headers HTTP/1.1\\r\\nHost: httpbin.bar.global\\r\\nConnection: close\\r\\n\\r\\n'; sleep 4) | timeout 20 openssl s_client -quiet -connect ${gateway}:15443 -servername ${sni} -alpn istio-http/1.1,istio`,
    );
    expect(ran.stdout).not.toContain("200 OK");
  });

  test("TLS below 1.2 is refused", async () => {
    const ran = await outside(
      "timeout",
      "20",
      "openssl",
      "s_client",
      "-connect",
      `${gateway}:15443`,
      "-servername",
      sni,
      "-tls1_1",
      "-cipher",
      "ALL@SECLEVEL=0",
      "-alpn",
      "istio",
    );
    expect(ran.stdout).toMatch(/Cipher is \(NONE\)|no peer certificate available/);
  });

  test("the right root with an identity of the wrong namespace is refused, and the caller is told both", async () => {
    // A name of namespace "wrong" in cluster2 whose only endpoint is the pod of namespace "bar".
    const pod = cluster(await lab.status(), "cluster2").pods.find(({ workload }) => workload === "httpbin")!;
    const objects = [
      { apiVersion: "v1", kind: "Namespace", metadata: { name: "wrong" } },
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "httpbin", namespace: "wrong" },
        spec: { ports: [{ name: "http", port: 8000, targetPort: 80 }] },
      },
      {
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        addressType: "IPv4",
        metadata: { name: "httpbin-1", namespace: "wrong", labels: { "kubernetes.io/service-name": "httpbin" } },
        ports: [{ name: "http", port: 80 }],
        endpoints: [
          {
            addresses: [pod.ip],
            conditions: { ready: true },
            targetRef: { kind: "Pod", name: pod.name, namespace: "bar" },
          },
        ],
      },
    ];
    const applied = await lab.apply("cluster2", objects.map((object) => JSON.stringify(object)).join("\n---\n"));
    expect(applied, applied.stderr).toMatchObject({ code: 0 });
    expect(await lab.apply("cluster1", remoteService({ host: "httpbin.wrong.global", gateway }))).toMatchObject({
      code: 0,
    });
    const { seen } = await eventually(
      () => lab.exec("cluster1", "sleep", "curl", "-s", "-m", "5", "-i", "httpbin.wrong.global:8000/headers"),
      (ran) => ran.stdout.includes("503") && ran.stdout.includes("/ns/bar/"),
      60_000,
    );
    expect(seen.stdout).toContain("spiffe://cluster.local/ns/wrong/");
    expect(seen.stdout).toContain("spiffe://cluster.local/ns/bar/sa/httpbin");
  });

  test("an identity narrowed by the entry is held to", async () => {
    const narrow = (name: string) =>
      lab.apply(
        "cluster1",
        remoteService({
          host: "httpbin.bar.global",
          gateway,
          vip: "240.0.0.2",
          subjectAltNames: [`spiffe://cluster.local/ns/bar/sa/${name}`],
        }),
      );
    const code = () =>
      lab.exec(
        "cluster1",
        "sleep",
        "curl",
        "-s",
        "-m",
        "5",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "httpbin.bar.global:8000/headers",
      );
    await narrow("somebody-else");
    await eventually(code, (ran) => ran.stdout === "503", 60_000);
    await narrow("httpbin");
    await eventually(code, (ran) => ran.stdout === "200", 60_000);
  });

  const addresses = [
    { it: "multicast", vip: "224.0.0.5" },
    { it: "loopback", vip: "127.0.0.5" },
  ];
  for (const { it, vip } of addresses) {
    test(`a ${it} address for a service is refused with its reason, on applying and in a file`, async () => {
      const entry = remoteService({ host: "bad.bar.global", gateway, vip });
      const applied = await lab.apply("cluster1", entry);
      expect(applied.code).not.toBe(0);
      expect(`${applied.stdout}${applied.stderr}`).toMatch(new RegExp(`${vip}.*${it}|${it}.*${vip}`));
      const file = join(lab.dir, "bad.yaml");
      writeFileSync(file, entry);
      const validated = await isthmus(["validate", "-f", file]);
      expect(validated.code).toBe(1);
      expect(validated.stdout).toMatch(/bad\.yaml:\d+:\d+: spec\.addresses\[0\]: /);
    });
  }

  test("two entries with one address: the older keeps it, the younger is told, neither is mixed up", async () => {
    await lab.apply("cluster1", remoteService({ host: "second.bar.global", gateway, vip: "240.0.0.2" }));
    const { seen } = await eventually(
      () => lab.status(),
      (status) => cluster(status, "cluster1").problems.some((line) => line.includes("240.0.0.2")),
      30_000,
    );
    const problem = cluster(seen, "cluster1").problems.find((line) => line.includes("240.0.0.2"));
    expect(problem).toMatch(/second/);
    const head = await lab.exec("cluster1", "sleep", "curl", "-sI", "httpbin.bar.global:8000/headers");
    expect(head.stdout).toMatch(/200 OK/);
    await lab.delete("cluster1", "-n", "foo", "serviceentry", "second-bar");
  });

  test("a wrong edit leaves the last good configuration in force", async () => {
    const folder = (await lab.status()).stateFolder;
    expect(folder).toBeTruthy();
    const applied = await lab.apply(
      "cluster1",
      "apiVersion: networking.istio.io/v1alpha3\nkind: ServiceEntry\nmetadata: {name: httpbin-bar, namespace: foo}\nspec:\n  hosts: [httpbin..global]\n  ports: [{name: http1, number: 70000, protocol: http}]\n",
    );
    expect(applied.code).not.toBe(0);
    expect(`${applied.stdout}${applied.stderr}`).toMatch(/spec\.hosts\[0\]/);
    expect(`${applied.stdout}${applied.stderr}`).toMatch(/spec\.ports\[0\]\.number/);
    const head = await lab.exec("cluster1", "sleep", "curl", "-sI", "httpbin.bar.global:8000/headers");
    expect(head.stdout).toMatch(/200 OK/);
  });
});
