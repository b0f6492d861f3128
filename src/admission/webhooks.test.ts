import type { IncomingHttpHeaders } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { describe, expect, onTestFinished, test } from "vitest";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../base/index.ts";
import { type TestAuthority, testAuthority } from "../testing/index.ts";
import type { Ip } from "../values/index.ts";
import { defaultInjectionSettings } from "./settings.ts";
import { applyPatch } from "./testdata/apply-patch.ts";
import { type ServingMaterial, startWebhooks } from "./webhooks.ts";

const host = "isthmus.isthmus-system.svc";
const authority = await testAuthority();
const first = await authority.issue({ dns: [host] });

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

async function scene() {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const metrics = new Metrics();
  const material = new Cell<ServingMaterial>(first);
  const settings = new Cell(defaultInjectionSettings({ cluster: "c", tag: "1" }));
  const serverVersion = new Cell<{ major: number; minor: number } | undefined>({ major: 1, minor: 33 });
  const deps = { clock: systemClock, log: silentLogger, metrics };
  const { port } = await startWebhooks(
    { listen: { ip: "127.0.0.1" as Ip, port: 0 }, material, settings, serverVersion },
    deps,
    scope,
  );
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const ask = (
    path: string,
    body: string | Buffer,
    options: {
      readonly method?: string;
      readonly headers?: Record<string, string>;
      readonly root?: TestAuthority;
      readonly alone?: boolean;
    } = {},
  ) =>
    new Promise<Answer>((resolve, reject) => {
      const call = httpsRequest({
        host: "127.0.0.1",
        port,
        path,
        method: options.method ?? "POST",
        servername: host,
        ca: (options.root ?? authority).rootPem,
        agent: options.alone ? false : agent,
        headers: { "content-type": "application/json", ...options.headers },
      });
      call.on("response", (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part: string) => {
          text += part;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
      });
      call.on("error", reject);
      call.end(body);
    });
  return { scope, metrics, material, settings, serverVersion, port, agent, ask };
}

const review = (object: unknown, more: object = {}, apiVersion = "admission.k8s.io/v1") =>
  JSON.stringify({
    apiVersion,
    kind: "AdmissionReview",
    request: {
      uid: "u-1",
      operation: "CREATE",
      kind: { group: "", version: "v1", kind: "Pod" },
      namespace: "foo",
      object,
      ...more,
    },
  });
const pod = { metadata: { generateName: "sleep-" }, spec: { containers: [{ name: "sleep", image: "curl" }] } };

test("a pod comes back as a patch that makes it an injected one, in both versions of the question", async () => {
  const { ask } = await scene();
  for (const version of ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"]) {
    const { status, text } = await ask("/inject", review(pod, { dryRun: true }, version));
    expect(status).toBe(200);
    const { apiVersion, response } = JSON.parse(text);
    expect(apiVersion).toBe(version);
    expect(response).toMatchObject({ uid: "u-1", allowed: true, patchType: "JSONPatch" });
    const patched = applyPatch(
      pod,
      JSON.parse(Buffer.from(response.patch, "base64").toString("utf8")),
    ) as typeof pod & {
      readonly spec: { readonly initContainers: readonly { readonly name: string }[] };
    };
    expect(patched.spec.initContainers.map(({ name }) => name)).toEqual(["istio-init", "istio-proxy"]);
    expect(patched.metadata.generateName).toBe("sleep-");
  }
});

test("settings and the server's version count from when they change", async () => {
  const { ask, settings, serverVersion } = await scene();
  serverVersion.set({ major: 1, minor: 27 });
  settings.set({ ...settings.value, tag: "2" });
  const { text } = await ask("/inject", review(pod));
  const patch = Buffer.from(JSON.parse(text).response.patch, "base64").toString("utf8");
  expect(patch).toContain("isthmus/isthmus:2");
  expect(patch).not.toContain('"restartPolicy":"Always"');
});

test("a pod that asks for what cannot be is denied with every reason", async () => {
  const { ask } = await scene();
  const annotations = { "sidecar.istio.io/interceptionMode": "TPROXY", "sidecar.istio.io/proxyCPU": "many" };
  const { text } = await ask("/inject", review({ ...pod, metadata: { annotations } }));
  const { response } = JSON.parse(text);
  expect(response.allowed).toBe(false);
  expect(response.status.message).toContain("TPROXY");
  expect(response.status.message).toContain("proxyCPU");
});

test("an object that is wrong is denied, one that is odd comes with warnings", async () => {
  const { ask } = await scene();
  const kind = { group: "networking.istio.io", version: "v1", kind: "ServiceEntry" };
  const object = {
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name: "a" },
    spec: { hosts: ["a.b.global"], ports: [{ number: 0 }] },
  };
  const denied = JSON.parse((await ask("/validate", review(object, { kind }))).text).response;
  expect(denied.allowed).toBe(false);
  expect(denied.status).toMatchObject({ code: 422, message: expect.stringContaining("spec.ports") });
  const odd = JSON.parse(
    (await ask("/inject", review({ ...pod, metadata: { annotations: { "sidecar.istio.io/inject": "enable" } } }))).text,
  ).response;
  expect(odd).toMatchObject({ allowed: true, warnings: [expect.stringContaining('write "true"')] });
});

describe("what is no question gets a clear answer, and the next one its own", () => {
  const cases: readonly (readonly [string, string, string | Buffer, object, number])[] = [
    ["another path", "/other", "{}", {}, 404],
    ["another method", "/inject", "", { method: "GET" }, 405],
    ["another type", "/inject", "{}", { headers: { "content-type": "text/plain" } }, 415],
    ["no JSON", "/inject", "{", {}, 400],
    ["another object", "/validate", '{"kind": "Pod"}', {}, 400],
    ["no text", "/inject", Buffer.from([0xff, 0xfe]), {}, 400],
    ["more than is read", "/inject", Buffer.alloc(3 * 1024 * 1024 + 1, 32), {}, 413],
  ];
  for (const [it, path, body, options, status] of cases)
    test(it, async () => {
      const { ask } = await scene();
      expect((await ask(path, body, options)).status).toBe(status);
      expect((await ask("/inject", review(pod))).status).toBe(200);
    });
});

test("pods of any form whatever end in an answer", async () => {
  const { ask } = await scene();
  const junk: readonly unknown[] = [
    null,
    0,
    "",
    true,
    [],
    {},
    [[]],
    [null],
    { name: 1 },
    { a: { b: [] } },
    -1,
    "a".repeat(300),
  ];
  const places = ["metadata", "spec"] as const;
  const fields = [
    "labels",
    "annotations",
    "containers",
    "initContainers",
    "volumes",
    "dnsConfig",
    "securityContext",
    "imagePullSecrets",
    "ownerReferences",
  ];
  for (const value of junk) {
    const objects: readonly unknown[] = [
      value,
      ...places.map((place) => ({ ...pod, [place]: value })),
      ...fields.flatMap((field) => places.map((place) => ({ ...pod, [place]: { ...pod[place], [field]: value } }))),
      {
        ...pod,
        spec: { containers: [{ name: "a", readinessProbe: value, ports: value, livenessProbe: { httpGet: value } }] },
      },
      {
        ...pod,
        metadata: { annotations: { "sidecar.istio.io/inject": value, "proxy.istio.io/config": JSON.stringify(value) } },
      },
    ];
    for (const object of objects) {
      const { status, text } = await ask("/inject", review(object));
      expect(status).toBe(200);
      const { response } = JSON.parse(text);
      expect(response.status?.code ?? 0, `${JSON.stringify(object)}: ${text}`).not.toBe(500);
    }
  }
});

test("what became of requests is counted", async () => {
  const { ask, metrics } = await scene();
  await ask("/inject", review(pod));
  await ask("/inject", "{");
  await ask("/validate", review(pod, { operation: "DELETE" }));
  const text = await metrics.text();
  for (const labels of [
    'webhook="inject",outcome="injected"',
    'webhook="inject",outcome="malformed"',
    'webhook="validate",outcome="good"',
  ])
    expect(text).toContain(`isthmus_admission_requests_total{${labels}} 1`);
});

test("another certificate serves new connections, and those that are open go on", async () => {
  const { ask, material, port } = await scene();
  const serialNow = () =>
    new Promise<string>((resolve, reject) => {
      const socket = connectTls({ host: "127.0.0.1", port, servername: host, ca: authority.rootPem }, () => {
        resolve(socket.getPeerCertificate().serialNumber);
        socket.destroy();
      });
      socket.on("error", reject);
    });
  await ask("/inject", review(pod));
  const before = await serialNow();
  material.set(await authority.issue({ dns: [host] }));
  expect(await serialNow()).not.toBe(before);
  const after = await serialNow();
  expect((await ask("/inject", review(pod))).status).toBe(200);
  material.set({ ...first, certChainPem: "nonsense" });
  expect(await serialNow()).toBe(after);
});

test("what is being asked when it stops is answered, and then nobody listens any more", async () => {
  const { ask, scope, port } = await scene();
  const body = review(pod);
  const idle = await new Promise<TLSSocket>((resolve) => {
    const socket = connectTls({ host: "127.0.0.1", port, servername: host, ca: authority.rootPem }, () =>
      resolve(socket),
    );
  });
  const heard = new Promise<string>((resolve) => {
    let text = "";
    idle.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
    idle.on("close", () => resolve(text));
  });
  const head = `POST /inject HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`;
  const closing = scope.close({ drainMs: 20_000, clock: systemClock });
  // On a connection that was idle when it began to stop.
  idle.write(head + body.slice(0, 10));
  idle.write(body.slice(10));
  expect(await heard).toMatch(/^HTTP\/1.1 200 OK.*connection: close.*"allowed":true/s);
  await closing;
  await expect(ask("/inject", body, { alone: true })).rejects.toThrow(/ECONNREFUSED/);
});

test("an address that is taken is said", async () => {
  const { port, material, settings, serverVersion, metrics, scope } = await scene();
  const options = { listen: { ip: "127.0.0.1" as Ip, port }, material, settings, serverVersion };
  await expect(startWebhooks(options, { clock: systemClock, log: silentLogger, metrics }, scope)).rejects.toMatchObject(
    { code: "webhooks/listen" },
  );
  const bad = { ...options, material: new Cell({ certChainPem: "x", privateKeyPem: "y" }) };
  await expect(startWebhooks(bad, { clock: systemClock, log: silentLogger, metrics }, scope)).rejects.toMatchObject({
    code: "webhooks/certificate",
  });
});
