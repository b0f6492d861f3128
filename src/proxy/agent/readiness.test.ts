import { expect, test } from "vitest";
import { Cell, Failure, Scope } from "../../base/index.ts";
import type { WorkloadCertificate } from "../../ca/index.ts";
import { type TypeUrl, typeUrls } from "../../proto/index.ts";
import { FakeClock } from "../../testing/index.ts";
import type { ConfigStore, DumpedResource } from "../config/store.ts";
import type { ListenerView } from "../proxy.ts";
import { readiness } from "./readiness.ts";

const listener = (of: Partial<ListenerView> = {}): ListenerView => ({
  name: "0.0.0.0_15006",
  addresses: ["0.0.0.0:15006"],
  bound: true,
  error: undefined,
  chains: [],
  ...of,
});

/** A proxy that lacks nothing. */
function scene(options: { readonly needsNames?: boolean } = {}) {
  const clock = new FakeClock(Date.UTC(2030, 0, 1));
  const scope = new Scope();
  const current = new Cell<WorkloadCertificate | undefined>({
    notAfter: clock.now() + 60_000,
  } as WorkloadCertificate);
  const problem = new Cell<Failure | undefined>(undefined);
  const told = new Set<TypeUrl>([typeUrls.listener, typeUrls.names]);
  const state = {
    listeners: [listener()],
    dump: [] as Partial<DumpedResource>[],
    problem: undefined as string | undefined,
    discovery: undefined as Failure | undefined,
  };
  const ready = readiness({
    clock,
    scope,
    certificates: { current, problem, ready: () => Promise.reject(new Error("not asked")), renew: () => {} },
    store: { dump: () => state.dump } as unknown as ConfigStore,
    proxy: { listeners: () => state.listeners, problem: () => state.problem },
    told: () => told,
    discoveryFailure: () => state.discovery,
    needsNames: options.needsNames ?? true,
  });
  return { clock, scope, current, problem, told, state, ready };
}

const away = new Failure("grpc/unavailable", "nobody there");
const rows: ReadonlyArray<{ it: string; lack: (of: ReturnType<typeof scene>) => void; says: string }> = [
  { it: "has no certificate", lack: ({ current }) => current.set(undefined), says: "no certificate yet" },
  {
    it: "is given no certificate",
    lack: ({ current, problem }) => {
      current.set(undefined);
      problem.set(away);
    },
    says: "no certificate yet: nobody there (grpc/unavailable)",
  },
  {
    it: "has a certificate that ended",
    lack: ({ clock, problem }) => {
      clock.advance(60_000);
      problem.set(away);
    },
    says: "the certificate ended at 2030-01-01T00:01:00.000Z: nobody there (grpc/unavailable)",
  },
  { it: "was told nothing", lack: ({ told }) => told.clear(), says: "no configuration yet" },
  {
    it: "cannot be told anything",
    lack: ({ told, state }) => {
      told.clear();
      state.discovery = away;
    },
    says: "no configuration yet: nobody there (grpc/unavailable)",
  },
  { it: "was told no names", lack: ({ told }) => void told.delete(typeUrls.names), says: "no names yet" },
  {
    it: "has a listener that waits for its routes",
    lack: ({ state }) => {
      state.dump = [{ type: typeUrls.listener, name: "0.0.0.0_8000", state: "warming" }];
    },
    says: 'listener "0.0.0.0_8000" waits for its routes',
  },
  {
    it: "has a listener whose port is taken",
    lack: ({ state }) => {
      state.listeners = [listener({ addresses: [], error: "port is taken" })];
    },
    says: 'listener "0.0.0.0_15006": port is taken',
  },
  {
    it: "has a listener that is not bound",
    lack: ({ state }) => {
      state.listeners = [listener({ addresses: [] })];
    },
    says: 'listener "0.0.0.0_15006" is not bound yet',
  },
  { it: "is being stopped", lack: ({ scope }) => void scope.close(), says: "stopping" },
];

test("a proxy that lacks nothing is ready, also before its first cluster has endpoints", () => {
  const { ready, state } = scene();
  state.dump = [{ type: typeUrls.cluster, name: "outbound|8000||httpbin", state: "warming" }];
  expect(ready()).toBeUndefined();
});

for (const { it, lack, says } of rows) {
  test(`a proxy that ${it} is not ready, and says why`, () => {
    const all = scene();
    lack(all);
    expect(all.ready()).toBe(says);
  });
}

test("a proxy without a resolver needs no names", () => {
  const { ready, told } = scene({ needsNames: false });
  told.delete(typeUrls.names);
  expect(ready()).toBeUndefined();
});

test("a listener that came later and cannot be bound does not take the callers of the others away", () => {
  const { ready, state } = scene();
  expect(ready()).toBeUndefined();
  state.listeners = [listener(), listener({ name: "0.0.0.0_80", addresses: [], error: "port is taken" })];
  state.dump = [{ type: typeUrls.listener, name: "0.0.0.0_81", state: "warming" }];
  expect(ready()).toBeUndefined();
});

test("a certificate that ends takes them away even then, and a new one brings them back", () => {
  const { ready, clock, current } = scene();
  expect(ready()).toBeUndefined();
  clock.advance(60_000);
  expect(ready()).toMatch(/certificate ended/);
  current.set({ notAfter: clock.now() + 60_000 } as WorkloadCertificate);
  expect(ready()).toBeUndefined();
});
