import { describe, expect, test } from "vitest";
import { exitStatus } from "./channels.ts";
import { fieldValue, keyValueLines, quantity, resourceValue } from "./downward.ts";
import { containerEnvironment } from "./environment.ts";
import { commandLine, findImage, packageInContainer } from "./images.ts";
import type { ContainerSpec, PodObject } from "./pod-object.ts";
import { nextVerdict, type Verdict } from "./probe-loop.ts";
import { hostsFile, resolvConf } from "./resolv-conf.ts";
import { capabilities, privileges } from "./security.ts";
import { serviceRules } from "./service-rules.ts";
import { assignLoadBalancers, servedPorts } from "./services.ts";
import { expandVariables } from "./variables.ts";
import { commonUser, volumeContent } from "./volume-files.ts";

const place = { podIp: "10.244.0.10", hostIp: "172.30.1.1", node: "cluster1-node" };

function podOf(spec: Partial<PodObject["spec"]>, metadata: Partial<PodObject["metadata"]> = {}): PodObject {
  return {
    metadata: { name: "web-1", namespace: "foo", uid: "u1", ...metadata },
    spec: { containers: [{ name: "web", image: "busybox" }], ...spec },
  };
}

describe("$(NAME)", () => {
  const values = new Map([
    ["A", "a"],
    ["EMPTY", ""],
  ]);
  test.each([
    ["$(A)", "a"],
    ["x$(A)y$(A)", "xaya"],
    ["$(NOBODY)", "$(NOBODY)"],
    ["$$(A)", "$(A)"],
    ["$$$(A)", "$a"],
    ["$$$$(A)", "$$(A)"],
    ["$(EMPTY)", ""],
    ["$A ${A} $", "$A ${A} $"],
    ["$(A", "$(A"],
  ])("%s is %s", (text, expanded) => expect(expandVariables(text, values)).toBe(expanded));
});

describe("the downward API", () => {
  test("labels stand in order, a line each, quoted as Go quotes", () => {
    const labels = { version: "v1", app: 'a"b\\c', note: "two\nlines\tand é and \u0001", "x/y": "" };
    expect(keyValueLines(labels)).toBe('app="a\\"b\\\\c"\nnote="two\\nlines\\tand é and \\x01"\nversion="v1"\nx/y=""');
  });

  const pod = podOf({ serviceAccountName: "sleep" }, { labels: { app: "x" }, annotations: { "a.b/c": "d" } });
  test.each([
    ["metadata.name", "web-1"],
    ["metadata.namespace", "foo"],
    ["metadata.uid", "u1"],
    ["metadata.labels['app']", "x"],
    ["metadata.annotations['a.b/c']", "d"],
    ["metadata.labels['none']", ""],
    ["spec.serviceAccountName", "sleep"],
    ["spec.nodeName", "cluster1-node"],
    ["status.podIP", "10.244.0.10"],
    ["status.hostIP", "172.30.1.1"],
    ["status.phase", undefined],
  ])("%s is %s", (path, value) => expect(fieldValue(pod, path, place)).toBe(value));

  test.each([
    ["limits.cpu", "1", "2"],
    ["limits.cpu", "1m", "1500"],
    ["requests.cpu", "1m", "100"],
    ["limits.memory", "1Mi", "64"],
    ["requests.memory", "1Ki", "65536"],
    ["limits.ephemeral-storage", "1", String(4 * 1024 ** 3)],
    ["weights.cpu", "1", undefined],
  ])("%s in units of %s is %s", (resource, divisor, value) => {
    const resources = { limits: { cpu: "1500m", memory: "64Mi" }, requests: { cpu: "100m" } };
    expect(resourceValue({ name: "web", image: "x", resources }, resource, divisor)).toBe(value);
  });

  test.each([
    ["250m", 0.25],
    ["1e3", 1000],
    ["2Gi", 2 * 1024 ** 3],
    ["1.5", 1.5],
    ["much", undefined],
  ])("quantity %s is %s", (text, number) => expect(quantity(text)).toBe(number));
});

describe("a container's variables", () => {
  const maps = new Map([["cfg", new Map([["K", Buffer.from("v")]])]]);
  const source = { configMap: (name: string) => maps.get(name), secret: (name: string) => maps.get(name) };
  const environment = (container: Partial<ContainerSpec>) =>
    containerEnvironment({
      pod: podOf({}),
      container: { name: "web", image: "x", ...container },
      image: { PATH: "/bin" },
      source,
      place,
    });

  test("the cluster's, those of envFrom, and its own in their order", () => {
    const found = environment({
      envFrom: [{ prefix: "P_", configMapRef: { name: "cfg" } }, { secretRef: { name: "none", optional: true } }],
      env: [
        { name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
        { name: "URL", value: "http://$(IP):$(KUBERNETES_SERVICE_PORT)/$(P_K)/$(LATER)" },
        { name: "LATER", value: "no" },
        { name: "KEY", valueFrom: { configMapKeyRef: { name: "cfg", key: "K" } } },
        { name: "GONE", valueFrom: { secretKeyRef: { name: "cfg", key: "none", optional: true } } },
      ],
    });
    if (!found.ok) throw new Error(found.problem);
    expect(Object.fromEntries(found.values)).toMatchObject({
      PATH: "/bin",
      HOSTNAME: "web-1",
      KUBERNETES_SERVICE_HOST: "10.96.0.1",
      P_K: "v",
      URL: "http://10.244.0.10:443/v/$(LATER)",
      KEY: "v",
    });
    expect(found.values.has("GONE")).toBe(false);
  });

  test.each([
    [{ envFrom: [{ configMapRef: { name: "none" } }] }, 'configmap "none" not found'],
    [{ envFrom: [{ secretRef: { name: "none" } }] }, 'secret "none" not found'],
    [{ env: [{ name: "A", valueFrom: { secretKeyRef: { name: "none", key: "k" } } }] }, 'secret "none" not found'],
    [
      { env: [{ name: "A", valueFrom: { configMapKeyRef: { name: "cfg", key: "k" } } }] },
      "couldn't find key k in ConfigMap foo/cfg",
    ],
  ])("%j cannot be had", (container, problem) => expect(environment(container)).toEqual({ ok: false, problem }));
});

describe("/etc/resolv.conf", () => {
  test.each([
    [{}, "search foo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"],
    [
      {
        dnsConfig: {
          searches: ["global"],
          nameservers: ["1.1.1.1"],
          options: [{ name: "ndots", value: "2" }, { name: "edns0" }],
        },
      },
      "search foo.svc.cluster.local svc.cluster.local cluster.local global\nnameserver 10.96.0.10\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
    ],
    [{ dnsPolicy: "Default" }, "nameserver 172.30.0.254\n"],
    [{ dnsPolicy: "None", dnsConfig: { nameservers: ["9.9.9.9"], searches: ["x"] } }, "search x\nnameserver 9.9.9.9\n"],
    [{ hostNetwork: true }, "nameserver 172.30.0.254\n"],
    [
      { hostNetwork: true, dnsPolicy: "ClusterFirstWithHostNet" },
      "search foo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
    ],
  ])("of %j", (spec, text) => expect(resolvConf(spec, "foo")).toBe(text));

  test("/etc/hosts has the pod and its aliases", () => {
    const spec = { hostAliases: [{ ip: "1.2.3.4", hostnames: ["a", "b"] }], subdomain: "sub" };
    expect(hostsFile(spec, { name: "web-1", namespace: "foo", ip: "10.244.0.10" }).split("\n").slice(2)).toEqual([
      "10.244.0.10\tweb-1.sub.foo.svc.cluster.local\tweb-1",
      "1.2.3.4\ta\tb",
      "",
    ]);
  });
});

describe("what a container may do", () => {
  test.each([
    [{}, 14],
    [{ drop: ["ALL"] }, []],
    [{ drop: ["ALL"], add: ["NET_ADMIN", "CAP_NET_RAW"] }, ["net_admin", "net_raw"]],
    [{ add: ["ALL"] }, ["all"]],
  ])("%j", (wish, granted) => {
    const all = capabilities(wish);
    if (typeof granted === "number") expect(all).toHaveLength(granted);
    else expect(all).toEqual(granted);
  });

  const line = (pod: object, container: object, user = 0) => {
    const may = privileges({ containers: [], ...pod }, { name: "c", image: "x", ...container }, user);
    return may.ok ? may.line.join(" ") : may.problem;
  };
  test("users and groups come from the container, then the pod, then the image", () => {
    const of = (pod: object, own: object, user?: number) =>
      line({ securityContext: pod }, { securityContext: own }, user);
    expect(of({ runAsUser: 1, runAsGroup: 2, fsGroup: 3, supplementalGroups: [4] }, { runAsUser: 5 })).toMatch(
      /^setpriv --reuid 5 --regid 2 --groups 3,4 /,
    );
    expect(of({}, {}, 1337)).toMatch(/^setpriv --reuid 1337 --regid 1337 --clear-groups /);
    expect(of({}, { allowPrivilegeEscalation: false })).toMatch(/ --no-new-privs$/);
    expect(of({}, { privileged: true })).not.toContain("bounding");
    expect(of({ runAsNonRoot: true }, {})).toContain("image will run as root");
    expect(of({ runAsNonRoot: true }, {}, 1337)).toContain("--reuid 1337");
  });
});

describe("images", () => {
  const table = { images: { "coredns/coredns": ["/cache/coredns"] }, envoy: "/cache/envoy" };
  const image = (name: string, container: Partial<ContainerSpec> = {}) =>
    findImage({ name: "c", image: name, ...container }, podOf({}), "cluster1", table);
  test.each([
    ["isthmus", ["/usr/local/bin/isthmus"]],
    ["registry.test:5000/isthmus/isthmus:0.1.0", ["/usr/local/bin/isthmus"]],
    ["isthmus/isthmus:0.1.0-envoy", ["/usr/local/bin/isthmus"]],
    ["registry.k8s.io/coredns/coredns:v1.12.4", ["/usr/local/bin/coredns"]],
    ["docker.io/kennethreitz/httpbin", ["/usr/local/bin/node", `${packageInContainer}/dist/lab/apps/httpbin.js`]],
    ["curlimages/curl", []],
  ])("%s runs %j", (name, entrypoint) => expect(image(name)).toMatchObject({ kind: "known", entrypoint }));

  test("an unknown one says what is known", () =>
    expect(image("nobody/knows:1")).toMatchObject({
      kind: "unknown",
      message: expect.stringContaining("curlimages/curl"),
    }));
  test("an image with Envoy has it on its path", () =>
    expect(image("isthmus/isthmus:1-envoy")).toMatchObject({ files: { "/usr/local/bin/envoy": "/cache/envoy" } }));

  test("a command replaces the image's, arguments stand behind either", () => {
    const known = image("isthmus/isthmus:1");
    if (known.kind !== "known") throw new Error(known.message);
    const expand = (text: string) => text.replace("$(A)", "a");
    expect(commandLine(known, { name: "c", image: "x", args: ["proxy", "$(A)"] }, expand)).toEqual([
      "/usr/local/bin/isthmus",
      "proxy",
      "a",
    ]);
    expect(commandLine(known, { name: "c", image: "x", command: ["sh", "-c"], args: ["$(A)"] }, expand)).toEqual([
      "sh",
      "-c",
      "a",
    ]);
  });
});

describe("volumes", () => {
  const maps = new Map([
    [
      "cfg",
      new Map([
        ["a", Buffer.from("1")],
        ["b", Buffer.from("2")],
      ]),
    ],
  ]);
  const known = {
    source: { configMap: (name: string) => maps.get(name), secret: (name: string) => maps.get(name) },
    place,
    tokenOf: ({ audience }: { audience: string }) => (audience === "istio-ca" ? "token" : undefined),
  };
  const content = (volume: object) => {
    const found = volumeContent({ name: "v", ...volume }, podOf({}, { labels: { app: "x" } }), known);
    if (found.kind !== "files") return found.kind === "problem" ? found.problem : found;
    return Object.fromEntries(found.files.map(({ path, bytes, mode }) => [path, `${bytes} ${mode.toString(8)}`]));
  };
  test.each([
    [{ configMap: { name: "cfg" } }, { a: "1 644", b: "2 644" }],
    [{ configMap: { name: "cfg", defaultMode: 0o400, items: [{ key: "a", path: "x/y" }] } }, { "x/y": "1 400" }],
    [{ configMap: { name: "none" } }, 'configmap "none" not found'],
    [{ configMap: { name: "none", optional: true } }, {}],
    [{ secret: { secretName: "cfg" } }, { a: "1 644", b: "2 644" }],
    [{ secret: { secretName: "none" } }, 'secret "none" not found'],
    [
      { configMap: { name: "cfg", items: [{ key: "c", path: "c" }] } },
      "configmap foo/cfg references non-existent configmap key: c",
    ],
    [{ emptyDir: { medium: "Memory" } }, { kind: "empty", memory: true }],
    [{ downwardAPI: { items: [{ path: "l", fieldRef: { fieldPath: "metadata.labels" } }] } }, { l: 'app="x" 644' }],
    [
      {
        projected: {
          sources: [
            { serviceAccountToken: { audience: "istio-ca", path: "istio-token" } },
            { configMap: { name: "cfg", items: [{ key: "a", path: "a" }] } },
          ],
        },
      },
      { "istio-token": "token 644", a: "1 644" },
    ],
    [{ hostPath: { path: "/" } }, 'the test node has no volumes of kind "hostPath"'],
  ])("%j", (volume, files) => expect(content(volume)).toEqual(files));

  test("tokens are the user's that all containers run as", () => {
    const of = (...users: (number | undefined)[]) =>
      commonUser(
        podOf({
          containers: users.map((user) => ({
            name: "c",
            image: "x",
            securityContext: user === undefined ? {} : { runAsUser: user },
          })),
        }),
      );
    expect(of(1337, 1337)).toBe(1337);
    expect(of(1337, undefined)).toBeUndefined();
  });
});

describe("probes", () => {
  test("turn after enough results in a row", () => {
    const turns = (spec: object, initially: boolean, ...results: boolean[]) => {
      let verdict: Verdict = { good: initially, inARow: 0, lastOk: initially };
      return results.map((ok) => {
        verdict = nextVerdict(verdict, ok, spec);
        return verdict.good;
      });
    };
    expect(turns({ failureThreshold: 2 }, true, false, true, false, false, true)).toEqual([
      true,
      true,
      true,
      false,
      true,
    ]);
    expect(turns({ successThreshold: 2 }, false, true, false, true, true)).toEqual([false, false, false, true]);
  });
});

describe("Services", () => {
  const slice = (name: string, ready: boolean | null, ip: string, port = 8080) => ({
    metadata: { namespace: "foo", labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    endpoints: [{ addresses: [ip], conditions: { ready } }],
    ports: [{ name: "http", port, protocol: "TCP" }],
  });
  const service = (name: string, spec: object) => ({ metadata: { name, namespace: "foo" }, spec });
  const http = [{ name: "http", port: 80, nodePort: 30080 }];

  test("are served at every address, by those that are ready", () => {
    const served = servedPorts({
      index: 2,
      services: [
        service("web", { type: "LoadBalancer", clusterIP: "10.96.0.5", ports: http }),
        service("headless", { clusterIP: "None", ports: [{ port: 80 }] }),
      ],
      slices: [
        slice("web", true, "10.244.0.10"),
        slice("web", false, "10.244.0.11"),
        slice("web", null, "10.244.0.12"),
      ],
      loadBalancers: new Map([["foo/web", "172.30.2.10"]]),
    });
    expect(served).toEqual([
      {
        protocol: "tcp",
        at: [
          { ip: "10.96.0.5", port: 80 },
          { ip: "172.30.2.10", port: 80 },
          { ip: "172.30.2.1", port: 30080 },
        ],
        endpoints: ["10.244.0.10:8080", "10.244.0.12:8080"],
      },
    ]);
  });

  test("become rules that spread evenly; who calls itself is sent back by another address", () => {
    const services = [
      { protocol: "tcp", at: [{ ip: "10.96.0.5", port: 80 }], endpoints: ["10.244.0.10:8080", "10.244.0.12:8080"] },
      { protocol: "udp", at: [{ ip: "10.96.0.6", port: 53 }], endpoints: [] },
    ] as const;
    const rules = serviceRules({ index: 2, services }).split("\n");
    expect(rules.filter((line) => line.includes("SERVED-"))).toEqual([
      ":SERVED-0 - [0:0]",
      "-A PREROUTING -d 10.96.0.5/32 -p tcp --dport 80 -j SERVED-0",
      "-A SERVED-0 -p tcp -m statistic --mode random --probability 0.500000 -j DNAT --to-destination 10.244.0.10:8080",
      "-A SERVED-0 -p tcp -j DNAT --to-destination 10.244.0.12:8080",
    ]);
    expect(rules).toContain("-A POSTROUTING -o br0 -s 10.244.0.12/32 -d 10.244.0.12/32 -j MASQUERADE");
    expect(rules.join("\n")).not.toContain("10.96.0.6");
  });

  test("load balancers keep their addresses; the lowest that is free is given next", () => {
    const services = ["a", "b", "c"].map((name) => service(name, { type: "LoadBalancer" }));
    const assigned = assignLoadBalancers(
      [...services, service("plain", { type: "ClusterIP" })],
      new Map([["foo/b", "ip0"]]),
      (n) => `ip${n}`,
    );
    expect(Object.fromEntries(assigned)).toEqual({ "foo/b": "ip0", "foo/a": "ip1", "foo/c": "ip2" });
  });
});

test("a command's end is told with its exit code", () => {
  expect(exitStatus(0)).toEqual({ status: "Success" });
  expect(exitStatus(7)).toMatchObject({
    reason: "NonZeroExitCode",
    details: { causes: [{ reason: "ExitCode", message: "7" }] },
  });
});
