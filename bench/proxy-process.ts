import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../src/base/index.ts";
import { NodeSchema } from "../src/proto/gen/envoy/config/core/v3/base_pb.js";
import type { TypeUrl } from "../src/proto/index.ts";
import { prepareDiscovery } from "../src/proxy/agent/discovery.ts";
import { Names } from "../src/proxy/agent/names.ts";
import { ConfigStore, type Secrets, startProxy } from "../src/proxy/index.ts";
import { type Issued, secretsOf } from "./issued.ts";

// One embedded proxy as a process of its own, its certificate from a file, and its configuration from there too, or from
// a control plane.

export interface ProxyFile {
  readonly told:
    | { readonly kind: "all"; readonly types: readonly ToldType[] }
    | { readonly kind: "by"; readonly controlPlane: string; readonly node: string };
  readonly certificate?: Issued;
}

export interface ToldType {
  readonly type: TypeUrl;
  readonly resources: ReadonlyArray<{ readonly name: string; readonly version: string; readonly bytes: string }>;
}

const { told, certificate } = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as ProxyFile;
const metrics = new Metrics();
const scope = new Scope();
const store = new ConfigStore({ clock: systemClock, log: silentLogger });
if (told.kind === "all") {
  for (const { type, resources } of told.types) {
    const refused = store.apply(
      type,
      resources.map(({ name, version, bytes }) => ({ name, version, bytes: Buffer.from(bytes, "base64") })),
      [],
    );
    if (refused.length > 0) throw new Error(refused.map(({ name, message }) => `${name}: ${message}`).join("\n"));
  }
} else {
  const { controlPlane, node } = told;
  const discovery = prepareDiscovery(
    {
      target: controlPlane,
      node: () => create(NodeSchema, { id: node }),
      store,
      names: new Names({ suffixes: [], searches: [] }),
      kept: undefined,
      onChange: () => {},
      clock: systemClock,
      random: Math.random,
      log: silentLogger,
      metrics,
    },
    scope,
  );
  discovery.start({ kind: "plaintext" });
}
const proxy = await startProxy(
  {
    clock: systemClock,
    random: Math.random,
    log: silentLogger,
    metrics,
    store,
    secrets: new Cell<Secrets>(certificate ? secretsOf(certificate) : new Map()),
    resolve: () => Promise.reject(new Error("no name service in a benchmark")),
  },
  scope,
);
const failed = proxy.listeners().find(({ error }) => error !== undefined);
if (failed) throw new Error(`listener "${failed.name}": ${failed.error}`);
process.send?.("ready");
const stop = () => void scope.close().finally(() => process.exit(0));
process.once("SIGTERM", stop);
process.once("disconnect", stop);
