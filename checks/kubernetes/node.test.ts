import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type Ran, root } from "../e2e/isthmus.ts";
import { missingForGround } from "./clusters.ts";
import { type Ground, startGround } from "./ground/ground.ts";

const missing = missingForGround();
const context = "cluster1";

/** What a container does that is to stay; by the number its processes are told from those of another run beside this. */
const stay = `exec sleep ${100_000_000 + process.pid}`;

/** A server that says which pod it is; it needs nothing but what every container has. */
const server = (port: number) => [
  "node",
  "-e",
  `require("http").createServer((q, s) => s.end(process.env.HOSTNAME + "\\n")).listen(${port})`,
];

describe("the test node, by kubectl", () => {
  if (missing) {
    test("runs pods", ({ skip }) => skip(missing));
    return;
  }
  let ground: Ground;
  const kubectl = (args: readonly string[], input?: string): Promise<Ran> =>
    ground.run(["kubectl", "--context", context, ...args], {
      ...(input === undefined ? {} : { input }),
      timeoutMs: 240_000,
    });
  /** Standard output of a command that must succeed. */
  const must = async (args: readonly string[], input?: string): Promise<string> => {
    const ran = await kubectl(args, input);
    if (ran.code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${ran.code}\n${ran.stdout}\n${ran.stderr}`);
    return ran.stdout;
  };
  /** Logs as they come, from when the first have come: `ended` is all there were. */
  const follow = async (name: string, container: string): Promise<{ readonly ended: Promise<string> }> => {
    const args = ["--context", context, "logs", "-n", "foo", name, "-c", container, "-f"];
    return new Promise((resolve, reject) => {
      const ran = ground.run(["kubectl", ...args], { timeoutMs: 120_000, onOutput: () => resolve({ ended }) });
      const ended = ran.then(({ stdout }) => stdout);
      ended.then(() => resolve({ ended }), reject);
    });
  };
  const apply = (...objects: readonly object[]) =>
    must(["apply", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
  const get = async (kind: string, name: string, path: string) =>
    must(["get", kind, name, "-n", "foo", "-o", `jsonpath=${path}`]);
  const exec = (pod: string, ...command: readonly string[]) => kubectl(["exec", "-n", "foo", pod, "--", ...command]);
  const pod = (name: string, spec: object, metadata: object = {}) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "foo", ...metadata },
    spec: { terminationGracePeriodSeconds: 1, ...spec },
  });
  const busybox = (name: string, script: string, more: object = {}) => ({
    name,
    image: "busybox",
    command: ["sh", "-c", script],
    ...more,
  });
  const ready = (name: string) => must(["wait", "-n", "foo", "--for=condition=Ready", `pod/${name}`, "--timeout=120s"]);
  /** No pods of these names, which a first run of the test may have left. */
  const fresh = (...names: readonly string[]) =>
    must(["delete", "pod", ...names, "-n", "foo", "--ignore-not-found", "--timeout=60s"]);
  /** What a container has said. It is ready as soon as it has begun, before it has said anything. */
  const says = async (text: string, name: string, ...args: readonly string[]) => {
    await eventually(
      () => must(["logs", "-n", "foo", name, ...args]),
      (said) => said === text,
      20_000,
    );
  };

  beforeAll(async () => {
    ground = await startGround({ clusters: [context] });
    await must(["create", "namespace", "foo"]);
  });
  afterAll(async () => ground?.stop());

  test("a Deployment of two with a ConfigMap behind a Service: by name, node port and load balancer", async () => {
    const labels = { app: "web" };
    const metadata = { name: "web", namespace: "foo" };
    const ports = [{ name: "http", port: 80, targetPort: "http", nodePort: 30080 }];
    await apply(
      { apiVersion: "v1", kind: "ConfigMap", metadata, data: { greeting: "hello" } },
      { apiVersion: "v1", kind: "Service", metadata, spec: { type: "LoadBalancer", selector: labels, ports } },
      {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata,
        spec: {
          replicas: 2,
          selector: { matchLabels: labels },
          template: {
            metadata: { labels },
            spec: {
              containers: [
                {
                  name: "web",
                  image: "busybox",
                  command: server(8080),
                  ports: [{ name: "http", containerPort: 8080 }],
                  readinessProbe: { httpGet: { path: "/", port: "http" }, periodSeconds: 1 },
                  volumeMounts: [{ name: "cfg", mountPath: "/etc/cfg" }],
                },
              ],
              volumes: [{ name: "cfg", configMap: { name: "web" } }],
            },
          },
        },
      },
      pod("sleep", { containers: [busybox("sleep", stay)] }),
    );
    await must(["rollout", "status", "-n", "foo", "deployment/web", "--timeout=120s"]);
    await ready("sleep");
    const pods = (
      await must(["get", "pods", "-n", "foo", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"])
    ).split(" ");
    expect(pods).toHaveLength(2);
    const callers: ReadonlyArray<(...line: string[]) => Promise<Ran>> = [
      (...line) => exec("sleep", ...line, "http://web/"),
      (...line) => exec("sleep", ...line, "http://web.foo.svc.cluster.local:80/"),
      (...line) => ground.run([...line, "http://172.30.1.1:30080/"]),
      async (...line) =>
        ground.run([...line, `http://${await get("service", "web", "{.status.loadBalancer.ingress[0].ip}")}/`]),
    ];
    for (const call of callers) {
      const seen = new Set<string>();
      for (let tries = 0; tries < 60 && seen.size < 2; tries++) {
        const { code, stdout } = await call("curl", "-sS", "-m", "5");
        if (code === 0) seen.add(stdout.trim());
      }
      expect([...seen].sort()).toEqual([...pods].sort());
    }
  });

  test("a changed ConfigMap is a changed file, and so are changed labels", async () => {
    await must(["delete", "configmap", "changing", "-n", "foo", "--ignore-not-found"]);
    await fresh("reader");
    await apply(
      {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: "changing", namespace: "foo" },
        data: { a: "1", b: "2" },
      },
      pod(
        "reader",
        {
          containers: [
            busybox("reader", stay, {
              volumeMounts: [
                { name: "cfg", mountPath: "/var/run/cfg" },
                { name: "cfg", mountPath: "/etc/one", subPath: "a" },
                { name: "info", mountPath: "/etc/info" },
              ],
            }),
          ],
          volumes: [
            { name: "cfg", configMap: { name: "changing" } },
            { name: "info", downwardAPI: { items: [{ path: "labels", fieldRef: { fieldPath: "metadata.labels" } }] } },
          ],
        },
        { labels: { app: "reader" } },
      ),
    );
    await ready("reader");
    const read = async () =>
      (await exec("reader", "sh", "-c", "cat /var/run/cfg/*; cat /etc/one /etc/info/labels")).stdout;
    expect(await read()).toBe('121app="reader"');
    await must(["patch", "configmap", "changing", "-n", "foo", "-p", '{"data":{"a":"3","b":null}}']);
    await must(["label", "pod", "reader", "-n", "foo", "version=v2"]);
    await eventually(read, (text) => text === '31app="reader"\nversion="v2"', 30_000);
  });

  test("exec: exit codes, both streams, standard input, much output", async () => {
    expect(await exec("sleep", "sh", "-c", "echo out; echo err >&2; exit 3")).toEqual({
      code: 3,
      stdout: "out\n",
      stderr: expect.stringContaining("err\n"),
    });
    const echoed = await kubectl(
      ["exec", "-i", "-n", "foo", "sleep", "--", "sh", "-c", "cat; echo end"],
      "in\n".repeat(50_000),
    );
    expect(echoed).toMatchObject({ code: 0, stdout: `${"in\n".repeat(50_000)}end\n` });
    const much = await exec("sleep", "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x");
    expect(much.code).toBe(0);
    expect(much.stdout.length).toBe(20_000_000);
    expect((await exec("sleep", "no-such-program")).code).not.toBe(0);
  });

  test("port-forward: to the pod's own loopback, connection after connection; a closed port says so", async () => {
    const script = `
      kubectl --context ${context} port-forward -n foo deployment/web 18080:8080 18081:9 > "$1" 2>&1 & forwarding=$!
      for try in $(seq 300); do grep -q 18081 "$1" && break; sleep 0.1; done
      for try in 1 2 3; do curl -sS -m 5 http://127.0.0.1:18080/; done
      curl -sS -m 5 http://127.0.0.1:18081/ && echo answered
      kill $forwarding; wait $forwarding; cat "$1"`;
    const { stdout } = await ground.run(["sh", "-c", script, "sh", join(ground.folder, "port-forward.log")]);
    const lines = stdout.split("\n");
    expect(lines.slice(0, 3).every((line) => line.startsWith("web-"))).toBe(true);
    expect(stdout).not.toContain("answered");
    expect(stdout).toContain("error forwarding port 9 to pod");
  });

  test("logs: all, the last lines, of one container, of the run before, and as they come", async () => {
    await fresh("talker");
    await apply(
      pod("talker", {
        containers: [
          busybox(
            "one",
            "for i in 1 2 3; do echo one $i; done; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo gone; exit 1",
          ),
          busybox("two", `echo two; ${stay}`),
        ],
      }),
    );
    await ready("talker");
    await says("two\n", "talker", "-c", "two");
    await says("one 2\none 3\n", "talker", "-c", "one", "--tail=2");
    // Begun before the run ends: whoever follows later follows the run after it.
    const following = await follow("talker", "one");
    await exec("talker", "sh", "-c", "touch /tmp/go");
    expect(await following.ended).toBe("one 1\none 2\none 3\ngone\n");
    await eventually(
      () => get("pod", "talker", "{.status.containerStatuses[0].restartCount}"),
      (count) => count === "1",
      60_000,
    );
    await says("one 1\none 2\none 3\ngone\n", "talker", "-c", "one", "-p");
    expect(await get("pod", "talker", "{.status.containerStatuses[0].lastState.terminated.exitCode}")).toBe("1");
  });

  test("init containers in order, a sidecar that stays and is waited for, and its end after the others", async () => {
    await fresh("ordered");
    await apply(
      pod("ordered", {
        terminationGracePeriodSeconds: 20,
        initContainers: [
          busybox("first", "echo first >> /all/log", { volumeMounts: [{ name: "all", mountPath: "/all" }] }),
          busybox(
            "side",
            "trap 'echo side ends >> /all/log; exit 0' TERM; echo side >> /all/log; sleep 1; touch /tmp/up; while :; do sleep 0.1; done",
            {
              restartPolicy: "Always",
              startupProbe: {
                exec: { command: ["sh", "-c", "[ -e /tmp/up ] && echo up >> /all/log"] },
                periodSeconds: 1,
                failureThreshold: 30,
              },
              volumeMounts: [{ name: "all", mountPath: "/all" }],
            },
          ),
          busybox("last", "echo last >> /all/log", { volumeMounts: [{ name: "all", mountPath: "/all" }] }),
        ],
        containers: [
          busybox(
            "main",
            "trap 'echo main ends >> /all/log; exit 0' TERM; echo main >> /all/log; while :; do sleep 0.1; done",
            {
              lifecycle: { postStart: { exec: { command: ["sh", "-c", "echo hook >> /all/log"] } } },
              volumeMounts: [{ name: "all", mountPath: "/all" }],
            },
          ),
          // It waits for the other one's end, however slow that is, and longer, to see whether the sidecar ends too.
          busybox(
            "witness",
            `trap 'for i in $(seq 100); do grep -q "main ends" /all/log && break; sleep 0.1; done; sleep 1; cat /all/log; exit 0' TERM
            echo up; while :; do sleep 0.1; done`,
            { volumeMounts: [{ name: "all", mountPath: "/all" }] },
          ),
        ],
        volumes: [{ name: "all", emptyDir: {} }],
      }),
    );
    await ready("ordered");
    const read = async () =>
      (await must(["exec", "-n", "foo", "ordered", "-c", "witness", "--", "cat", "/all/log"])).trim().split("\n");
    // A container without a probe is ready when it is started, maybe before it has said so itself.
    const { seen: log } = await eventually(read, (lines) => lines.length === 6, 30_000);
    expect(log.slice(0, 4)).toEqual(["first", "side", "up", "last"]);
    expect(log.slice(4).sort()).toEqual(["hook", "main"]);
    const following = await follow("ordered", "witness");
    await must(["delete", "pod", "-n", "foo", "ordered", "--timeout=90s"]);
    expect((await following.ended).trim().split("\n").at(-1)).toBe("main ends");
  });

  test("what is missing keeps a pod waiting, says so, and lets it go on when it comes", async () => {
    await must(["delete", "secret", "later", "-n", "foo", "--ignore-not-found"]);
    await fresh("waits", "unknown", "crashes");
    await apply(
      pod("waits", {
        containers: [
          busybox("c", stay, {
            env: [{ name: "A", valueFrom: { secretKeyRef: { name: "later", key: "a" } } }],
          }),
        ],
        volumes: [{ name: "s", secret: { secretName: "later" } }],
      }),
      pod("unknown", { containers: [{ name: "c", image: "nobody/knows:1" }] }),
      pod("crashes", { containers: [busybox("c", "exit 7")] }),
    );
    const waiting = (name: string) => get("pod", name, "{.status.containerStatuses[0].state.waiting}");
    await eventually(
      () => waiting("waits"),
      (text) => text.includes('secret \\"later\\" not found'),
      60_000,
    );
    await eventually(
      () => waiting("unknown"),
      (text) => text.includes("ErrImageNeverPull") && text.includes("nobody/knows"),
      60_000,
    );
    await eventually(
      () => waiting("crashes"),
      (text) => text.includes("CrashLoopBackOff"),
      60_000,
    );
    expect(await get("pod", "crashes", "{.status.containerStatuses[0].lastState.terminated.exitCode}")).toBe("7");
    await eventually(
      () => must(["describe", "pod", "-n", "foo", "waits"]),
      (text) => text.includes("FailedMount"),
      30_000,
    );
    await must(["create", "secret", "generic", "later", "-n", "foo", "--from-literal=a=b"]);
    await ready("waits");
    expect((await exec("waits", "sh", "-c", "echo $A")).stdout).toBe("b\n");
  });

  test("tokens of the audience asked for, and of the account; other users' capabilities", async () => {
    await fresh("account");
    const tables = "iptables -t nat -A OUTPUT -p tcp --dport 81 -j REDIRECT --to-ports 80";
    const security = (user: number, add: readonly string[]) => ({
      securityContext: { runAsUser: user, capabilities: { add, drop: ["ALL"] } },
    });
    await apply(
      pod("account", {
        initContainers: [busybox("may", tables, security(0, ["NET_ADMIN", "NET_RAW"]))],
        containers: [
          busybox("c", `${tables} && echo ruled || echo refused; ${stay}`, {
            ...security(1337, ["NET_ADMIN"]),
            volumeMounts: [{ name: "token", mountPath: "/var/run/secrets/tokens" }],
          }),
        ],
        volumes: [
          {
            name: "token",
            projected: {
              sources: [
                { serviceAccountToken: { audience: "istio-ca", path: "istio-token", expirationSeconds: 3600 } },
              ],
            },
          },
        ],
      }),
    );
    await ready("account");
    await eventually(
      () => must(["logs", "-n", "foo", "account"]),
      (text) => text.includes("refused"),
      20_000,
    );
    const token = (await exec("account", "cat", "/var/run/secrets/tokens/istio-token")).stdout;
    const review = {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenReview",
      spec: { token, audiences: ["istio-ca"] },
    };
    const { status } = JSON.parse(await must(["create", "-o", "json", "-f", "-"], JSON.stringify(review)));
    expect(status).toMatchObject({ authenticated: true, user: { username: "system:serviceaccount:foo:default" } });
    const own = await exec(
      "account",
      "sh",
      "-c",
      'd=/var/run/secrets/kubernetes.io/serviceaccount; curl -sS --cacert $d/ca.crt -H "Authorization: Bearer $(cat $d/token)" -o /dev/null -w "%{http_code}" https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/$(cat $d/namespace)/pods',
    );
    // The account may do nothing, but the API server knows who asks.
    expect(own).toMatchObject({ code: 0, stdout: "403" });
  });

  test("a Job runs to its end; a failed liveness probe starts a container anew", async () => {
    await must([
      ...["delete", "job", "once", "-n", "foo", "--ignore-not-found", "--cascade=foreground", "--timeout=60s"],
    ]);
    await fresh("sick");
    const sidecar = busybox("side", stay, { restartPolicy: "Always" });
    const spec = { restartPolicy: "Never", initContainers: [sidecar], containers: [busybox("c", "echo done")] };
    const template = { spec: { terminationGracePeriodSeconds: 1, ...spec } };
    await apply(
      { apiVersion: "batch/v1", kind: "Job", metadata: { name: "once", namespace: "foo" }, spec: { template } },
      pod("sick", {
        containers: [
          busybox("c", stay, {
            livenessProbe: { tcpSocket: { port: 9 }, periodSeconds: 1, failureThreshold: 2 },
          }),
        ],
      }),
    );
    await must(["wait", "-n", "foo", "--for=condition=Complete", "job/once", "--timeout=120s"]);
    await says("done\n", "job/once", "-c", "c");
    const once = ["get", "pods", "-n", "foo", "-l", "job-name=once", "-o"];
    const ends =
      "jsonpath={.items[0].status.phase} {.items[0].status.initContainerStatuses[0].state.terminated.exitCode}";
    expect(await must([...once, ends])).toBe("Succeeded 143");
    await eventually(
      () => get("pod", "sick", "{.status.containerStatuses[0].restartCount}"),
      (count) => Number(count) > 0,
      60_000,
    );
  });

  test("CoreDNS takes a changed ConfigMap", async () => {
    const corefile = await must([
      "get",
      "configmap",
      "coredns",
      "-n",
      "kube-system",
      "-o",
      "jsonpath={.data.Corefile}",
    ]);
    // Once only: with the same zone twice it would be refused.
    const data = {
      Corefile: `${corefile.split("\nmade.test:53")[0]}\nmade.test:53 {\n  template IN A {\n    answer "{{ .Name }} 60 IN A 192.0.2.7"\n  }\n}\n`,
    };
    await must(["patch", "configmap", "coredns", "-n", "kube-system", "-p", JSON.stringify({ data })]);
    await eventually(
      async () => (await exec("sleep", "getent", "ahostsv4", "x.made.test")).stdout,
      (text) => text.startsWith("192.0.2.7"),
      90_000,
    );
  });

  test("a deleted namespace takes its pods along, and their processes", async () => {
    await must(["delete", "namespace", "foo", "--ignore-not-found", "--timeout=180s"]);
    const folder = join(ground.folder, "nodes");
    const mine = () => processes().filter((line) => line.includes(folder) || line.includes(stay.replace("exec ", "")));
    await eventually(
      async () => mine().filter((line) => !line.includes("node-main")),
      (left) => left.length === 0,
      20_000,
    );
  });
});

test("nothing is left when whoever started it is killed", async ({ skip }) => {
  if (missing) skip(missing);
  // Of this run alone, whatever runs beside it.
  const cluster = `left-behind-${process.pid}`;
  const script = `
    import { startTestNetwork } from "${root}/checks/kubernetes/node/network.ts";
    import { Scope } from "${root}/src/base/index.ts";
    const network = await startTestNetwork({ clusters: ["${cluster}"] }, new Scope());
    console.log("up");
    setInterval(() => {}, 1000);`;
  const hooks = join(root, "checks/kubernetes/typescript.mjs");
  const child = spawn(process.execPath, ["--import", hooks, "--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise((up) => child.stdout.once("data", up));
  const left = () =>
    processes().filter((line) => line.includes(`router-${cluster}`) || line.includes(`${cluster}-node`));
  expect(left().length).toBeGreaterThan(0);
  child.kill("SIGKILL");
  await eventually(
    async () => left(),
    (lines) => lines.length === 0,
    30_000,
  );
});

/** Command lines of all processes of the machine. */
function processes(): readonly string[] {
  return readdirSync("/proc").flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      return [readFileSync(`/proc/${entry}/cmdline`, "utf8").replaceAll("\0", " ")];
    } catch {
      return []; // It ended while we looked.
    }
  });
}
