import { readFileSync } from "node:fs";
import { create, type JsonObject } from "@bufbuild/protobuf";
import { Cell, createLogger, Metrics, systemClock } from "../../../src/base/index.ts";
import { runUntilSignalled } from "../../../src/cli/service.ts";
import { buildMesh, defaultMeshSettings } from "../../../src/model/index.ts";
import { NodeSchema } from "../../../src/proto/gen/envoy/config/core/v3/base_pb.js";
import { typeUrls } from "../../../src/proto/index.ts";
import {
  ConfigStore,
  certificateSecret,
  type EmbeddedProxy,
  type Secrets,
  startProxy,
  trustSecret,
} from "../../../src/proxy/index.ts";
import { kindNames, type Resource, readResources } from "../../../src/resources/index.ts";
import { parseIp } from "../../../src/values/index.ts";
import { readNode, snapshotFor } from "../../../src/xds/index.ts";

/*
 * The proxies of a small mesh in a process of their own, configured by what the compiler makes of YAML, so that a test
 * can attack them, count their memory and descriptors, and starve or signal them.
 */

export interface Orders {
  readonly yaml: string;
  readonly drainMs: number;
  readonly trust: string;
  readonly proxies: ReadonlyArray<{
    readonly name: string;
    readonly id: string;
    readonly metadata: JsonObject;
    readonly chain: string;
    readonly key: string;
  }>;
  readonly addresses: Readonly<Record<string, string>>;
}

export type Question = "memory" | "metrics" | "open";
export interface Memory {
  readonly rss: number;
  /** What is in use after a collection, in bytes: the heap and what buffers hold beside it. */
  readonly used: number;
}
export type Told =
  | { readonly kind: "ready" }
  | { readonly kind: "memory"; readonly memory: Memory }
  | { readonly kind: "metrics"; readonly text: string }
  | { readonly kind: "open"; readonly open: number };

const orders = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as Orders;
const log = createLogger({ level: "info", name: "proxy" });
const metrics = new Metrics();
const tell = (told: Told) => process.send?.(told);

function meshOf(yaml: string) {
  const { resources, violations } = readResources(yaml, { cluster: "c1", file: "mesh.yaml", defaultNamespace: "bar" });
  if (violations.some(({ severity }) => severity === "error")) throw new Error(JSON.stringify(violations, null, 2));
  const view = Object.fromEntries(kindNames.map((kind) => [kind, new Map<string, Resource>()]));
  for (const one of resources) view[one.kind]!.set(`${one.metadata.namespace}/${one.metadata.name}`, one);
  return buildMesh({ view: view as never, settings: { cluster: "c1", ...defaultMeshSettings } });
}

await runUntilSignalled({ log, drainMs: orders.drainMs }, async (scope) => {
  const mesh = meshOf(orders.yaml);
  const running: EmbeddedProxy[] = [];
  for (const { name, id, metadata, chain, key } of orders.proxies) {
    const read = readNode(create(NodeSchema, { id, metadata }));
    if (!read.ok) throw new Error(read.reason);
    const store = new ConfigStore({ clock: systemClock, log });
    const snapshot = snapshotFor(mesh, read.node);
    for (const type of [typeUrls.cluster, typeUrls.endpoints, typeUrls.listener, typeUrls.route]) {
      const refused = store.apply(type, [...(snapshot.get(type)?.values() ?? [])], []);
      if (refused.length > 0) throw new Error(JSON.stringify(refused, null, 2));
    }
    const proxy = await startProxy(
      {
        clock: systemClock,
        random: Math.random,
        log: log.child({ proxy: name }),
        metrics,
        store,
        secrets: new Cell<Secrets>(
          new Map([
            ["default", certificateSecret(chain, key)],
            ["ROOTCA", trustSecret(orders.trust)],
          ]),
        ),
        resolve: () => Promise.reject(new Error("no name service here")),
        resolveDestination: (host: string) =>
          Promise.resolve([parseIp(orders.addresses[host] ?? "")].filter((ip) => ip !== undefined)),
      },
      scope,
    );
    running.push(proxy);
    const unbound = proxy.listeners().filter(({ bound, addresses, error }) => bound && (error || !addresses.length));
    if (unbound.length > 0) throw new Error(JSON.stringify(unbound, null, 2));
  }
  process.on("message", (question: Question) => {
    if (question === "metrics") void metrics.text().then((text) => tell({ kind: "metrics", text }));
    else if (question === "open") tell({ kind: "open", open: running.reduce((sum, { open }) => sum + open, 0) });
    else {
      // Twice: what a finaliser lets go is free only after the second.
      globalThis.gc?.();
      setImmediate(() => {
        globalThis.gc?.();
        const { rss, heapUsed, external } = process.memoryUsage();
        tell({ kind: "memory", memory: { rss, used: heapUsed + external } });
      });
    }
  });
  // Who started us is gone: nobody would stop us.
  process.on("disconnect", () => process.exit(0));
  tell({ kind: "ready" });
});
