import { expect, onTestFinished, test } from "vitest";
import { Scope, silentLogger, systemClock } from "../base/index.ts";
import { createKubeClient } from "../kube/index.ts";
import type { Kind } from "../resources/index.ts";
import { accessOf, type FakeKubeApi, fakeKubeApi } from "../testing/index.ts";
import { type ObjectObserver, startKubernetesSource } from "./kubernetes.ts";
import { ResourceStore } from "./store.ts";

const services = "/api/v1/services";
const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const entries = "/apis/networking.istio.io/v1/serviceentries";
const olderEntries = "/apis/networking.istio.io/v1beta1/serviceentries";

function define(api: FakeKubeApi, ...versions: string[]): void {
  api.serve(definitions);
  const served = versions.map((name) => ({ name, served: true }));
  api.put(definitions, { metadata: { name: "serviceentries.networking.istio.io" }, spec: { versions: served } });
}

function service(name: string, port: number) {
  const metadata = { namespace: "foo", name, managedFields: [{ manager: "kubectl" }] };
  return { metadata, spec: { ports: [{ port }] } };
}

function entry(name: string, hosts: readonly string[]) {
  return {
    metadata: { namespace: "foo", name },
    spec: { hosts, ports: [{ name: "http", number: 80, protocol: "HTTP" }], resolution: "NONE" },
  };
}

async function source(prepare: (api: FakeKubeApi) => void, mayBeForbidden: readonly Kind[] = []) {
  const api = await fakeKubeApi();
  api.serve(services);
  prepare(api);
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const access = {
    name: "test",
    server: api.url,
    authority: undefined,
    serverName: undefined,
    insecure: false,
    namespace: "default",
    credentials: { kind: "none" },
  } as const;
  const client = createKubeClient({ access, clock: systemClock, env: {}, userAgent: "isthmus-test" }, scope);
  const store = new ResourceStore();
  const clock = {
    ...systemClock,
    after: (ms: number, run: () => void) => systemClock.after(Math.min(ms, 2_000) / 20, run),
  };
  const started = startKubernetesSource(
    {
      client,
      cluster: "cluster1",
      kinds: ["Service", "ServiceEntry"],
      mayBeForbidden,
      store,
      clock,
      random: () => 0.5,
      log: silentLogger,
    },
    scope,
  );
  started.catch(() => {});
  const names = () => [...store.view.value.resources.values()].map(({ kind, metadata }) => `${kind} ${metadata.name}`);
  const shows = (...expected: string[]) => expect.poll(names, { timeout: 5_000, interval: 5 }).toEqual(expected);
  return { api, scope, store, started, names, shows };
}

test("objects of the API become resources, in the version that the cluster serves, and follow its changes", async () => {
  const { api, started, shows, names } = await source((api) => {
    define(api, "v1beta1", "v1alpha3");
    api.serve(olderEntries);
    api.put(services, service("web", 80));
    api.put(olderEntries, entry("out", ["a.example"]));
  });
  await started;
  expect(names().sort()).toEqual(["Service web", "ServiceEntry out"]);
  await expect.poll(() => api.watching(services) + api.watching(olderEntries)).toBe(2);
  api.put(services, service("shop", 80));
  api.remove(olderEntries, "foo/out");
  await shows("Service shop", "Service web");
});

test("an object whose bookkeeping alone changed stays the same object, so that nothing is made anew", async () => {
  const { api, store, started } = await source((api) => {
    define(api, "v1");
    api.serve(entries);
    api.put(services, service("web", 80));
  });
  await started;
  await expect.poll(() => api.watching(services)).toBe(1);
  const before = store.view.value;
  api.put(services, service("web", 80));
  api.put(entries, entry("mark", ["a.example"]));
  await expect.poll(() => store.view.value.resources.size).toBe(2);
  expect(store.view.value.byKind.Service).toBe(before.byKind.Service);
});

test("a wrong object keeps its last good value, and what is wrong is said with the object's name", async () => {
  const { api, store, started } = await source((api) => {
    define(api, "v1");
    api.serve(entries);
    api.put(entries, entry("out", ["a.example"]));
  });
  await started;
  await expect.poll(() => api.watching(entries)).toBe(1);
  api.put(entries, entry("out", ["not a host"]));
  await expect.poll(() => store.view.value.problems.length).toBeGreaterThan(0);
  expect(store.view.value.problems[0]).toMatchObject({ file: "ServiceEntry foo/out", source: "Kubernetes test" });
  expect([...store.view.value.byKind.ServiceEntry.values()][0]?.spec.hosts).toHaveLength(1);
});

test("a kind whose definition comes later is taken up; when the definition goes, so do its objects", async () => {
  const { api, started, shows, names } = await source((api) => {
    api.serve(definitions);
    api.put(services, service("web", 80));
  });
  await started;
  expect(names()).toEqual(["Service web"]);
  api.serve(entries);
  api.put(entries, entry("out", ["a.example"]));
  define(api, "v1");
  await shows("Service web", "ServiceEntry out");
  api.remove(definitions, "serviceentries.networking.istio.io");
  api.forget(entries);
  await shows("Service web");
  api.serve(entries);
  api.put(entries, entry("out", ["a.example"]));
  define(api, "v1");
  await shows("Service web", "ServiceEntry out");
});

test("a collection that is not there while its definition is keeps what was read: the server is starting", async () => {
  const { api, started, names } = await source((api) => {
    define(api, "v1");
    api.serve(entries);
    api.put(entries, entry("out", ["a.example"]));
  });
  await started;
  await expect.poll(() => api.watching(entries)).toBe(1);
  api.forget(entries);
  await expect
    .poll(() => api.requests.filter((line) => line.includes("serviceentries.networking")).length)
    .toBeGreaterThan(1);
  expect(names()).toEqual(["ServiceEntry out"]);
});

test("nobody is told half a cluster: the start waits for every kind, and says which are late and why", async () => {
  const { api, scope, started, store } = await source((api) => {
    define(api, "v1");
    api.put(services, service("web", 80));
    api.serve(entries);
    api.away(true);
  });
  let done = false;
  void started.then(() => {
    done = true;
  });
  await expect.poll(() => api.requests.length).toBeGreaterThan(3);
  expect(done).toBe(false);
  api.away(false);
  expect((await started).behind()).toEqual([]);
  expect(store.view.value.resources.size).toBe(1);
  api.away(true);
  await expect
    .poll(async () =>
      (await started)
        .behind()
        .map(({ kind }) => kind)
        .sort(),
    )
    .toEqual(["Service", "ServiceEntry"]);
  expect(store.view.value.resources.size).toBe(1);
  await scope.close();
  expect(store.view.value.resources.size).toBe(0);
});

test("a kind that the caller may not read counts as empty where that is allowed, and is taken up with the right", async () => {
  const { api, started, shows } = await source(
    (api) => {
      define(api, "v1");
      api.serve(entries);
      api.put(services, service("web", 80));
      api.put(entries, entry("out", ["a.example"]));
      api.refuse(services, 403);
    },
    ["Service"],
  );
  expect((await started).behind().map(({ kind, failure }) => [kind, failure.code])).toEqual([
    ["Service", "kube/forbidden"],
  ]);
  await shows("ServiceEntry out");
  api.refuse(services, undefined);
  await shows("Service web", "ServiceEntry out");
});

test("what a status says is no news but for addresses, and who observes sees it all", async () => {
  const api = await fakeKubeApi();
  api.serve(services);
  define(api, "v1");
  api.serve(entries);
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const client = createKubeClient(
    { access: accessOf(api), clock: systemClock, env: {}, userAgent: "isthmus-test" },
    scope,
  );
  const store = new ResourceStore();
  const heard: string[] = [];
  const observer: ObjectObserver = {
    served: (kind, { version, status }) => heard.push(`${kind} ${version} ${status ? "with status" : "whole"}`),
    seen: (kind, name, object) => heard.push(`${kind} ${name} ${JSON.stringify(object?.["status"])}`),
  };
  api.put(entries, entry("a", ["a.example"]));
  const kinds = ["Service", "ServiceEntry"] as const;
  await startKubernetesSource(
    { client, cluster: "c", kinds, store, observer, clock: systemClock, random: () => 0.5, log: silentLogger },
    scope,
  );
  const view = store.view.value;
  api.put(entries, { ...entry("a", ["a.example"]), status: { conditions: [{ type: "Accepted" }] } });
  await expect.poll(() => heard.length, { timeout: 5_000, interval: 5 }).toBe(3);
  expect(store.view.value).toBe(view);
  api.put(entries, {
    ...entry("a", ["a.example"]),
    status: { addresses: [{ host: "a.example", value: "240.240.1.1" }] },
  });
  await expect.poll(() => store.view.value === view, { timeout: 5_000, interval: 5 }).toBe(false);
  api.remove(entries, "foo/a");
  await expect.poll(() => heard.length, { timeout: 5_000, interval: 5 }).toBe(5);
  expect(heard).toEqual([
    "ServiceEntry v1 whole",
    "ServiceEntry foo/a undefined",
    'ServiceEntry foo/a {"conditions":[{"type":"Accepted"}]}',
    'ServiceEntry foo/a {"addresses":[{"host":"a.example","value":"240.240.1.1"}]}',
    "ServiceEntry foo/a undefined",
  ]);
});

test("a kind that is read in some namespaces is behind where it may not be read, and only there", async () => {
  const api = await fakeKubeApi();
  api.serve("/api/v1/secrets");
  const secret = (namespace: string) => ({ metadata: { namespace, name: "cert" }, type: "Opaque", data: {} });
  for (const namespace of ["a", "b", "c"]) api.put("/api/v1/secrets", secret(namespace));
  api.refuse("/api/v1/namespaces/b/secrets", 403);
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const client = createKubeClient(
    { access: accessOf(api), clock: systemClock, env: {}, userAgent: "isthmus-test" },
    scope,
  );
  const store = new ResourceStore();
  const found = await startKubernetesSource(
    {
      client,
      cluster: "c",
      kinds: ["Secret"],
      mayBeForbidden: ["Secret"],
      namespaces: { Secret: ["a", "b"] },
      store,
      clock: systemClock,
      random: () => 0.5,
      log: silentLogger,
    },
    scope,
  );
  expect([...store.view.value.byKind.Secret.values()].map(({ metadata }) => metadata.namespace)).toEqual(["a"]);
  expect(found.behind().map(({ kind, namespace, failure }) => [kind, namespace, failure.code])).toEqual([
    ["Secret", "b", "kube/forbidden"],
  ]);
});
