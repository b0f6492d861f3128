import { expect, test } from "vitest";
import { memorySource, ResourceStore } from "./index.ts";

const namespace = (name: string, l: unknown = "x") => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name, labels: { l } },
});
const account = (name: string) => ({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name } });
const key = (name: string) => `c1//Namespace//${name}`;

function storeWith() {
  const store = new ResourceStore();
  const label = (name: string) => store.view.value.byKind.Namespace.get(key(name))?.metadata.labels["l"];
  return {
    store,
    label,
    source: (name: string, precedence = 0) => memorySource({ store, cluster: "c1", name, precedence }),
  };
}

test("of two sources the higher precedence wins, and removing its object uncovers the other", () => {
  const { label, source } = storeWith();
  const [high, low] = [source("high", 1), source("low")];
  high.put([namespace("a", "high")]);
  low.put([namespace("a", "low")]);
  expect(label("a")).toBe("high");
  high.remove([key("a")]);
  expect(label("a")).toBe("low");
  high.put([namespace("a", "high")]);
  high.close();
  expect(label("a")).toBe("low");
});

test("an object that becomes wrong keeps its last good value beside its problem, until it is good again", () => {
  const { store, label, source } = storeWith();
  const memory = source("memory");
  memory.put([namespace("a", "good")]);
  expect(memory.put([namespace("a", 1)])).toMatchObject([{ code: "ISM0303" }]);
  expect(label("a")).toBe("good");
  expect(store.view.value.problems).toMatchObject([{ source: "memory", path: "metadata.labels.l" }]);
  memory.put([namespace("a", "better")]);
  expect(label("a")).toBe("better");
  expect(store.view.value.problems).toEqual([]);
});

test("an object that was never good is not there", () => {
  const { store, source } = storeWith();
  source("memory").put([namespace("a", 1)]);
  expect(store.view.value.resources.size).toBe(0);
  expect(store.view.value.problems).toHaveLength(1);
});

test("what did not change stays the same object, and the map of an untouched kind the same map", () => {
  const { store, source } = storeWith();
  const memory = source("memory");
  memory.put([namespace("a"), account("s")]);
  const before = store.view.value;
  memory.put([namespace("a"), namespace("b")]);
  const after = store.view.value;
  expect(after.resources.get(key("a"))).toBe(before.resources.get(key("a")));
  expect(after.byKind.ServiceAccount).toBe(before.byKind.ServiceAccount);
  expect(after.byKind.Namespace).not.toBe(before.byKind.Namespace);
  expect(before.byKind.Namespace.size).toBe(1);
});

test("a batch is one change, and a batch without news is none", () => {
  const { store, source } = storeWith();
  const memory = source("memory");
  let changes = 0;
  store.view.subscribe(() => changes++);
  memory.put([namespace("a"), namespace("b")]);
  expect(changes).toBe(1);
  memory.put([namespace("a"), namespace("b")]);
  memory.remove([key("none")]);
  expect(changes).toBe(1);
});
