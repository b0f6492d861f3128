import { readFileSync } from "node:fs";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../src/base/index.ts";
import type { TypeUrl } from "../src/proto/index.ts";
import { ConfigStore, certificateSecret, type Secrets, startProxy, trustSecret } from "../src/proxy/index.ts";

// One embedded proxy as a process of its own, with configuration and certificates from a file in place of a control plane.

export interface ProxyFile {
  readonly types: ReadonlyArray<{
    readonly type: TypeUrl;
    readonly resources: ReadonlyArray<{ readonly name: string; readonly version: string; readonly bytes: string }>;
  }>;
  readonly certificate?: { readonly chain: string; readonly key: string; readonly roots: string };
}

const { types, certificate } = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as ProxyFile;
const store = new ConfigStore({ clock: systemClock, log: silentLogger });
for (const { type, resources } of types) {
  const refused = store.apply(
    type,
    resources.map(({ name, version, bytes }) => ({ name, version, bytes: Buffer.from(bytes, "base64") })),
    [],
  );
  if (refused.length > 0) throw new Error(refused.map(({ name, message }) => `${name}: ${message}`).join("\n"));
}
const secrets: Secrets = new Map(
  certificate
    ? [
        ["default", certificateSecret(certificate.chain, certificate.key)],
        ["ROOTCA", trustSecret(certificate.roots)],
      ]
    : [],
);
const scope = new Scope();
const proxy = await startProxy(
  {
    clock: systemClock,
    random: Math.random,
    log: silentLogger,
    metrics: new Metrics(),
    store,
    secrets: new Cell(secrets),
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
