import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Scope, systemClock } from "../../base/index.ts";
import { createIntermediate, createRoot, encodeCsr, makeKeyPair, writeCacerts } from "../../ca/index.ts";
import { accessOf, type FakeKubeApi, fakeKubeApi } from "../../testing/index.ts";
import type { ControlConfig } from "../config.ts";
import { startControlPlane } from "../control-plane.ts";
import {
  certificateOf,
  certificatesOf,
  configOf,
  depsOf,
  type Folders,
  folders,
  free,
  freePort,
  proxyOn,
  running,
  secured,
} from "../testdata/scene.ts";
import { ownLabels } from "./names.ts";

const api1 = (plural: string) => `/api/v1/${plural}`;
const entries = "/apis/networking.istio.io/v1/serviceentries";
const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const mutating = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const validating = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const leases = "/apis/coordination.k8s.io/v1/leases";
const reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
const quick = { timeout: 8_000, interval: 20 };

async function cluster(): Promise<FakeKubeApi> {
  const api = await fakeKubeApi();
  for (const plural of ["namespaces", "services", "pods", "nodes", "secrets", "configmaps"]) api.serve(api1(plural));
  for (const path of [
    "/apis/discovery.k8s.io/v1/endpointslices",
    leases,
    mutating,
    validating,
    definitions,
    entries,
    reviews,
  ])
    api.serve(path);
  const subresources = { status: {} };
  const versions = [{ name: "v1", served: true, subresources }];
  api.put(definitions, { metadata: { name: "serviceentries.networking.istio.io" }, spec: { versions } });
  for (const name of ["foo", "bar"]) api.put(api1("namespaces"), { metadata: { name } });
  return api;
}

function within(api: FakeKubeApi, over: Partial<ControlConfig["kubernetes"]> = {}): Partial<ControlConfig> {
  const kubernetes = {
    access: accessOf(api),
    env: {},
    revision: "default",
    me: "isthmus-0",
    secretNamespaces: undefined,
    writes: true,
  };
  return { kubernetes: { ...kubernetes, ...over }, configDirs: [], health: free };
}

function entry(name: string, spec: object = {}) {
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { namespace: "foo", name, generation: 1, creationTimestamp: "2026-01-01T00:00:00Z" },
    spec: {
      hosts: [`${name}.bar.global`],
      location: "MESH_INTERNAL",
      ports: [{ name: "http", number: 80, protocol: "HTTP" }],
      resolution: "STATIC",
      endpoints: [{ address: "10.1.1.1" }],
      ...spec,
    },
  };
}

const rootsOf = (api: FakeKubeApi, namespace: string) =>
  (api.get(api1("configmaps"), `${namespace}/isthmus-ca-root-cert`)?.["data"] as Record<string, string> | undefined)?.[
    "root-cert.pem"
  ];
const statusOf = (api: FakeKubeApi, name: string) =>
  api.get(entries, `foo/${name}`)?.["status"] as
    | { conditions?: Array<Record<string, unknown>>; addresses?: Array<Record<string, string>> }
    | undefined;
const conditionsOf = (api: FakeKubeApi, name: string) =>
  statusOf(api, name)?.conditions?.map(({ type, status, reason }) => `${type} ${status} ${reason}`);

test("every namespace has our root of trust, and has it again when somebody changes or deletes it", async () => {
  const api = await cluster();
  const plane = await running(folders(), within(api));
  const pem = plane.cacerts.current.value.trust.pem;
  await expect.poll(() => rootsOf(api, "foo"), quick).toBe(pem);
  await expect.poll(() => rootsOf(api, "bar"), quick).toBe(pem);
  const made = api.get(api1("configmaps"), "foo/isthmus-ca-root-cert")!;
  expect((made["metadata"] as { labels: object }).labels).toEqual(ownLabels);
  api.put(api1("configmaps"), { ...made, metadata: made["metadata"] as object, data: { "root-cert.pem": "forged" } });
  await expect.poll(() => rootsOf(api, "foo"), quick).toBe(pem);
  api.remove(api1("configmaps"), "bar/isthmus-ca-root-cert");
  await expect.poll(() => rootsOf(api, "bar"), quick).toBe(pem);
  api.put(api1("namespaces"), { metadata: { name: "later" } });
  await expect.poll(() => rootsOf(api, "later"), quick).toBe(pem);
  const applied = api.writes.filter(({ path }) => path.includes("configmaps"));
  expect(applied.every(({ query }) => query.get("fieldManager") === "isthmus-controlplane")).toBe(true);
});

test("a root that rotates is followed; a namespace that ends is left; somebody else's ConfigMap is left, and that is said", async () => {
  const api = await cluster();
  api.put(api1("namespaces"), { metadata: { name: "ending", deletionTimestamp: "2026-01-01T00:00:00Z" } });
  api.put(api1("configmaps"), { metadata: { namespace: "bar", name: "isthmus-ca-root-cert" }, data: { mine: "1" } });
  const at = folders();
  const plane = await running(at, within(api));
  await expect.poll(() => rootsOf(api, "foo"), quick).toBeDefined();
  const next = createRoot({ nowMs: systemClock.now() });
  writeCacerts(at.cacerts, createIntermediate({ nowMs: systemClock.now(), issuer: next, cluster: "cluster1" }), {
    replace: true,
  });
  await expect.poll(() => rootsOf(api, "foo"), quick).toBe(next["root-cert.pem"]);
  expect(rootsOf(api, "ending")).toBeUndefined();
  expect(api.get(api1("configmaps"), "bar/isthmus-ca-root-cert")?.["data"]).toEqual({ mine: "1" });
  const problems = (await plane.ask("/problems")) as Array<{ where: string; code: string }>;
  expect(problems.filter(({ code }) => code === "control/foreign-object").map(({ where }) => where)).toEqual([
    "ConfigMap bar/isthmus-ca-root-cert",
  ]);
});

test("our webhooks get the root, and the validating one is strict once it is seen to refuse", async () => {
  const api = await cluster();
  const labels = { ...ownLabels, "isthmus.dev/revision": "default" };
  let serves = false;
  api.answerPosts(entries, (_body, query) => {
    if (query.get("dryRun") !== "All" || !serves) return undefined;
    return [
      422,
      { kind: "Status", code: 422, message: 'admission webhook "v.isthmus.dev" denied the request: spec.hosts: …' },
    ];
  });
  const hooks = [{ name: "a.isthmus.dev", clientConfig: { service: {} }, failurePolicy: "Ignore" }];
  api.put(mutating, { metadata: { name: "isthmus-sidecar-injector", labels }, webhooks: hooks });
  api.put(validating, { metadata: { name: "isthmus-validator", labels }, webhooks: hooks });
  const plane = await running(folders(), within(api));
  const bundle = Buffer.from(plane.cacerts.current.value.trust.pem).toString("base64");
  const hook = (path: string, name: string) =>
    (
      api.get(path, name)!["webhooks"] as Array<{
        clientConfig: { caBundle?: string; service?: object };
        failurePolicy: string;
      }>
    )[0]!;
  await expect
    .poll(() => hook(mutating, "isthmus-sidecar-injector").clientConfig, quick)
    .toEqual({ service: {}, caBundle: bundle });
  await expect.poll(() => hook(validating, "isthmus-validator").clientConfig.caBundle, quick).toBe(bundle);
  const unproven = async () =>
    ((await plane.ask("/problems")) as Array<{ code: string }>).some(({ code }) => code === "control/webhook-unproven");
  await expect.poll(unproven, quick).toBe(true);
  expect(hook(validating, "isthmus-validator").failurePolicy).toBe("Ignore");
  serves = true;
  await expect.poll(() => hook(validating, "isthmus-validator").failurePolicy, quick).toBe("Fail");
  expect(hook(mutating, "isthmus-sidecar-injector").failurePolicy).toBe("Ignore");
  expect(api.get(entries, "isthmus-system/isthmus-webhook-probe")).toBeUndefined();
});

test("objects say whether they are accepted and in force; writing that is no news, and happens once", async () => {
  const api = await cluster();
  const at = folders();
  const plane = await running(at, within(api));
  api.put(entries, entry("good"));
  api.put(entries, entry("wrong", { hosts: [] }));
  await expect
    .poll(() => conditionsOf(api, "good"), quick)
    .toEqual(["Accepted True Accepted", "Programmed True Programmed"]);
  await expect
    .poll(() => conditionsOf(api, "wrong"), quick)
    .toEqual(["Accepted False Invalid", "Programmed False Invalid"]);
  expect(statusOf(api, "wrong")?.conditions?.[0]?.["message"]).toContain("hosts");
  expect(statusOf(api, "good")?.conditions?.[0]?.["observedGeneration"]).toBe(1);
  const wait = (ms: number) => new Promise((resolve) => systemClock.after(ms, () => resolve(undefined)));
  // The address that it was given is news, once.
  await wait(300);
  const mesh = plane.mesh.value;
  const before = api.writes.length;
  const { metadata, ...object } = api.get(entries, "foo/good")! as { metadata: object };
  const status = { ...statusOf(api, "good"), conditions: [{ type: "Other", status: "True" }] };
  api.put(entries, { ...object, metadata, status });
  await expect.poll(() => conditionsOf(api, "good")?.length, quick).toBe(3);
  // Time for whatever would go round in circles.
  await wait(1_500);
  expect(api.writes.slice(before).filter(({ path }) => path.endsWith("/status"))).toHaveLength(1);
  expect(plane.mesh.value).toBe(mesh);
});

test("a proxy that refuses what is made of an object says so at the object", async () => {
  const api = await cluster();
  const at = folders();
  const plane = await running(at, within(api));
  api.put(entries, entry("httpbin"));
  await expect.poll(() => plane.mesh.value.services.size, quick).toBe(1);
  let refusing = true;
  proxyOn({
    target: `127.0.0.1:${plane.ports.secure}`,
    security: secured(await certificateOf(at, "spiffe://cluster.local/ns/foo/sa/sleep")),
    scope: plane.scope,
    refuse: ({ updated }) =>
      refusing
        ? updated
            .filter(({ name }) => name.startsWith("outbound|"))
            .map(({ name }) => ({ name, reason: "I am a teapot" }))
        : [],
  });
  await expect.poll(() => conditionsOf(api, "httpbin")?.[1], quick).toBe("Programmed False RefusedByProxy");
  expect(statusOf(api, "httpbin")?.conditions?.[1]?.["message"]).toContain("I am a teapot");
  refusing = false;
  api.put(entries, {
    ...entry("httpbin", {
      endpoints: [{ address: "10.1.1.2" }],
      ports: [{ name: "http", number: 81, protocol: "HTTP" }],
    }),
  });
  await expect.poll(() => conditionsOf(api, "httpbin")?.[1], quick).toBe("Programmed True Programmed");
});

test("a proxy of another replica that refuses says so at the object too, until that replica's pod is gone", async () => {
  const api = await cluster();
  const pod = (name: string) => ({
    metadata: { namespace: "isthmus-system", name },
    spec: { containers: [{ name: "isthmus" }] },
    status: { phase: "Running" },
  });
  for (const name of ["a", "b"]) api.put(api1("pods"), pod(name));
  api.put(entries, entry("httpbin"));
  const at = folders();
  const leader = await running(at, within(api, { me: "a" }));
  await expect.poll(() => leader.ask("/debug/leader"), quick).toEqual({ kind: "leading" });
  await expect.poll(() => conditionsOf(api, "httpbin")?.[1], quick).toBe("Programmed True Programmed");
  const other = await running(at, within(api, { me: "b" }));
  proxyOn({
    target: `127.0.0.1:${other.ports.secure}`,
    security: secured(await certificateOf(at, "spiffe://cluster.local/ns/foo/sa/sleep")),
    scope: other.scope,
    refuse: ({ updated }) =>
      updated.filter(({ name }) => name.startsWith("outbound|")).map(({ name }) => ({ name, reason: "I am a teapot" })),
  });
  await expect.poll(() => conditionsOf(api, "httpbin")?.[1], quick).toBe("Programmed False RefusedByProxy");
  expect(statusOf(api, "httpbin")?.conditions?.[1]?.["message"]).toContain("I am a teapot");
  await other.scope.close();
  api.remove(api1("pods"), "isthmus-system/b");
  await expect.poll(() => conditionsOf(api, "httpbin")?.[1], quick).toBe("Programmed True Programmed");
});

test("of two revisions one writes what there is once, and says at objects what proxies of either refuse", async () => {
  const api = await cluster();
  const podOf = (name: string) => ({
    metadata: { namespace: "isthmus-system", name },
    spec: { containers: [{ name: "isthmus" }] },
    status: { phase: "Running" },
  });
  for (const name of ["a", "b"]) api.put(api1("pods"), podOf(name));
  api.put(entries, entry("httpbin"));
  const at = folders();
  const old = await running(at, within(api, { me: "a" }));
  await expect.poll(() => conditionsOf(api, "httpbin")?.[1], quick).toBe("Programmed True Programmed");
  const canary = await running(at, within(api, { me: "b", revision: "canary" }));
  await expect.poll(() => canary.ask("/debug/leader"), quick).toEqual({ kind: "leading" });
  expect(api.get(leases, "isthmus-system/isthmus-mesh")?.["spec"]).toMatchObject({ holderIdentity: "default" });
  proxyOn({
    target: `127.0.0.1:${canary.ports.plaintext}`,
    security: { kind: "plaintext" },
    scope: canary.scope,
    refuse: ({ updated }) =>
      updated.filter(({ name }) => name.startsWith("outbound|")).map(({ name }) => ({ name, reason: "I am a teapot" })),
  });
  const statusWrites = () => api.writes.filter(({ path }) => path.endsWith("/httpbin/status")).length;
  const before = statusWrites();
  await expect.poll(() => conditionsOf(api, "httpbin")?.[1], quick).toBe("Programmed False RefusedByProxy");
  // Nobody takes it back.
  await new Promise((resolve) => systemClock.after(2_500, () => resolve(undefined)));
  expect(conditionsOf(api, "httpbin")?.[1]).toBe("Programmed False RefusedByProxy");
  expect(statusWrites()).toBe(before + 1);
  // When the one revision goes, the other one writes.
  await old.retire(0);
  await expect
    .poll(() => api.get(leases, "isthmus-system/isthmus-mesh")?.["spec"], quick)
    .toMatchObject({ holderIdentity: "canary" });
  api.put(entries, entry("later"));
  await expect.poll(() => conditionsOf(api, "later")?.[0], quick).toBe("Accepted True Accepted");
});

test("the next leader of a revision goes on at once with what the one that died wrote, another revision waits", async () => {
  const api = await cluster();
  const held = {
    metadata: { namespace: "isthmus-system", name: "isthmus-mesh" },
    spec: { holderIdentity: "default", leaseDurationSeconds: 15, leaseTransitions: 0 },
  };
  api.put(leases, held);
  const canary = await running(folders(), within(api, { me: "b", revision: "canary" }));
  await expect.poll(() => canary.ask("/debug/leader"), quick).toEqual({ kind: "leading" });
  expect(rootsOf(api, "foo")).toBeUndefined();
  await running(folders(), within(api, { me: "a" }));
  await expect.poll(() => rootsOf(api, "foo"), quick).toBeDefined();
  expect(api.get(leases, "isthmus-system/isthmus-mesh")?.["spec"]).toMatchObject({ holderIdentity: "default" });
});

test("who may not hold what decides among revisions writes its own webhooks alone, and says which right it lacks", async () => {
  const api = await cluster();
  api.refuse("/apis/coordination.k8s.io/v1/namespaces/isthmus-system/leases/isthmus-mesh", 403);
  const plane = await running(folders(), within(api));
  await expect.poll(() => plane.ask("/debug/leader"), quick).toEqual({ kind: "leading" });
  await expect
    .poll(async () => ((await plane.ask("/problems")) as Array<{ where: string; code: string }>).at(-1), quick)
    .toMatchObject({ where: "Lease isthmus-system/isthmus-mesh", code: "kube/forbidden" });
  expect(rootsOf(api, "foo")).toBeUndefined();
});

test("an address that was given is written down, and holds for whoever reads it later", async () => {
  const api = await cluster();
  const first = await running(folders(), within(api));
  api.put(entries, entry("httpbin"));
  await expect.poll(() => statusOf(api, "httpbin")?.addresses?.length, quick).toBe(1);
  const given = first.mesh.value.services.get("httpbin.bar.global" as never)?.addresses[0];
  expect(statusOf(api, "httpbin")?.addresses).toEqual([{ host: "httpbin.bar.global", value: given }]);
  await first.scope.close();
  // As another replica, or an earlier release, had given it.
  const object = api.get(entries, "foo/httpbin")!;
  const addresses = [{ host: "httpbin.bar.global", value: "240.240.9.9" }];
  api.put(entries, { ...object, metadata: object["metadata"] as object, status: { addresses } });
  const second = await running(folders(), within(api, { me: "isthmus-1" }));
  expect(second.mesh.value.services.get("httpbin.bar.global" as never)?.addresses).toEqual(["240.240.9.9"]);
});

test("of two replicas one writes; when it goes the other does", async () => {
  const api = await cluster();
  const a = await running(folders(), within(api, { me: "a" }));
  await expect.poll(() => a.ask("/debug/leader"), quick).toEqual({ kind: "leading" });
  const b = await running(folders(), within(api, { me: "b" }));
  await expect.poll(() => b.ask("/debug/leader"), quick).toEqual({ kind: "following", holder: "a" });
  await a.retire(0);
  await expect.poll(() => b.ask("/debug/leader"), quick).toEqual({ kind: "leading" });
});

test("who may not write leases goes on without leading, and says which right it lacks", async () => {
  const api = await cluster();
  api.refuse("/apis/coordination.k8s.io/v1/namespaces/isthmus-system/leases/isthmus-leader", 403);
  const plane = await running(folders(), within(api));
  const lines = async () => (await plane.ask("/problems")) as Array<{ where: string; code: string; message: string }>;
  await expect
    .poll(async () => (await lines()).find(({ where }) => where === "Lease")?.code, quick)
    .toBe("kube/forbidden");
  expect(rootsOf(api, "foo")).toBeUndefined();
});

test("a read-only one touches nothing", async () => {
  const api = await cluster();
  api.put(entries, entry("httpbin"));
  await running(folders(), within(api, { writes: false }));
  await new Promise((resolve) => systemClock.after(1_000, () => resolve(undefined)));
  expect(api.writes).toEqual([]);
});

test("a caller's token is proven by the cluster, and nobody is refused while the cluster is away", async () => {
  const api = await cluster();
  const status = {
    authenticated: true,
    audiences: ["istio-ca"],
    user: { username: "system:serviceaccount:foo:sleep", groups: ["system:serviceaccounts"] },
  };
  api.answerPosts(reviews, ({ spec }) => {
    const { audiences } = spec as { audiences: string[] };
    return [201, { kind: "TokenReview", status: audiences[0] === "istio-ca" ? status : { authenticated: false } }];
  });
  const at: Folders = folders();
  const plane = await running(at, { ...within(api), tokenKeysFile: undefined });
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = (id: string) =>
    `${part({ alg: "RS256", id })}.${part({ sub: "system:serviceaccount:foo:sleep", exp: systemClock.now() / 1000 + 600 })}.c2ln`;
  const file = join(at.dir, "token");
  const asking = () =>
    certificatesOf(plane, { tokenFile: file })(encodeCsr(makeKeyPair("ec-p256").privateKey), {
      ttlMs: undefined,
      signal: new AbortController().signal,
    });
  writeFileSync(file, token("1"));
  expect((await asking()).certificate).toContain("BEGIN CERTIFICATE");
  api.away(true);
  writeFileSync(file, token("2"));
  await expect(asking()).rejects.toMatchObject({ code: "grpc/unavailable" });
});

test("while the API server is away at the start it is waited for, and readiness says why", async () => {
  const api = await cluster();
  api.away(true);
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const health = { ip: free.ip, port: await freePort() };
  const started = startControlPlane({ ...configOf(folders(), within(api)), health }, depsOf(), scope);
  const ask = async (path: string) => {
    const answer = await fetch(`http://127.0.0.1:${health.port}${path}`).catch(() => undefined);
    return answer && `${answer.status} ${await answer.text()}`;
  };
  await expect
    .poll(() => ask("/ready"), quick)
    .toMatch(/^503 [\s\S]*the cluster: .* cannot be read: cannot reach the API server/);
  expect(await ask("/live")).toBe("200 live\n");
  expect(await ask("/problems")).toMatch(/^404/);
  api.away(false);
  const plane = await started;
  expect(await ask("/ready")).toBe("200 ready\n");
  await plane.retire(0);
  expect(await ask("/ready")).toBe("503 not ready\n  it stops\n");
});

test("Secrets are read in the named namespaces only", async () => {
  const api = await cluster();
  const tls = (namespace: string) => ({ metadata: { namespace, name: "cert" }, type: "Opaque", data: {} });
  api.put(api1("secrets"), tls("isthmus-system"));
  api.put(api1("secrets"), tls("foo"));
  const plane = await running(folders(), within(api, { secretNamespaces: ["isthmus-system", "edge"] }));
  expect([...plane.store.view.value.byKind.Secret.values()].map(({ metadata }) => metadata.namespace)).toEqual([
    "isthmus-system",
  ]);
  expect(api.requests.filter((line) => line.startsWith("GET /api/v1/secrets"))).toEqual([]);
  expect(plane.mesh.value.settings.secretNamespaces).toEqual(["isthmus-system", "edge"]);
});
