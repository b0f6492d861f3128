import { spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { openSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { connect } from "node:tls";
import { toJson } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../../src/base/index.ts";
import { TransportSocketSchema } from "../../src/proto/gen/envoy/config/core/v3/base_pb.js";
import { registry } from "../../src/proto/registry.ts";
import { startSecretService } from "../../src/proxy/agent/envoy/sds.ts";
import { startFileSecrets } from "../../src/proxy/agent/file-secrets.ts";
import { envoyPlaces, locateEnvoy, type Secrets } from "../../src/proxy/index.ts";
import { scratchDir, testAuthority } from "../../src/testing/index.ts";
import { gatewayServerTls } from "../../src/xds/outside-tls.ts";
import { needs } from "../requirements.ts";

type ServerTls = Parameters<typeof gatewayServerTls>[0];

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

/** A server that takes connections; without one Envoy closes before it opens TLS. */
const listening = () =>
  new Promise<number>((resolve) => {
    const server = createServer((socket) => socket.on("error", () => {}).resume());
    onTestFinished(() => void server.close());
    server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port));
  });

/** An Envoy with a chain of TLS for each name, whose files its agent's secret service reads. */
async function envoyWith(dir: string, files: Readonly<Record<string, string>>): Promise<number> {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const path = join(dir, "sds.sock");
  const deps = { clock: systemClock, log: silentLogger, metrics: new Metrics() };
  await startSecretService(
    { path, secrets: new Cell<Secrets>(new Map()), files: startFileSecrets(deps, scope) },
    deps,
    scope,
  );
  const port = await freePort();
  const app = await listening();
  const chain = ([name, file]: [string, string]) => ({
    filterChainMatch: { serverNames: [name] },
    transportSocket: toJson(
      TransportSocketSchema,
      gatewayServerTls(
        {
          mode: "SIMPLE",
          serverCertificate: `${file}.crt`,
          privateKey: `${file}.key`,
          minProtocolVersion: "TLS_AUTO",
          maxProtocolVersion: "TLS_AUTO",
          cipherSuites: [],
          credentialNames: [],
          tlsCertificates: [],
        } as unknown as ServerTls,
        "bytes",
      )!,
      { registry },
    ),
    filters: [
      {
        name: "tcp",
        typedConfig: {
          "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
          statPrefix: "x",
          cluster: "app",
        },
      },
    ],
  });
  const http2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
      explicitHttpConfig: { http2ProtocolOptions: {} },
    },
  };
  const bootstrap = {
    node: { id: "router~10.0.0.1~gw.edge~edge.svc.cluster.local", cluster: "gw" },
    staticResources: {
      listeners: [
        {
          name: "gw",
          address: { socketAddress: { address: "127.0.0.1", portValue: port } },
          listenerFilters: [
            {
              name: "tls",
              typedConfig: {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
              },
            },
          ],
          filterChains: Object.entries(files).map(chain),
        },
      ],
      clusters: [
        {
          name: "app",
          type: "STATIC",
          loadAssignment: {
            clusterName: "app",
            endpoints: [
              { lbEndpoints: [{ endpoint: { address: { socketAddress: { address: "127.0.0.1", portValue: app } } } }] },
            ],
          },
        },
        {
          name: "sds-grpc",
          type: "STATIC",
          typedExtensionProtocolOptions: http2,
          loadAssignment: {
            clusterName: "sds-grpc",
            endpoints: [{ lbEndpoints: [{ endpoint: { address: { pipe: { path } } } }] }],
          },
        },
      ],
    },
  };
  const file = join(dir, "bootstrap.json");
  writeFileSync(file, JSON.stringify(bootstrap));
  const { path: binary } = await locateEnvoy(envoyPlaces(process.env));
  const log = openSync(join(dir, "envoy.log"), "w");
  const argv = ["-c", file, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"];
  const child = spawn(binary, argv, { stdio: ["ignore", log, log] });
  onTestFinished(async () => {
    child.kill("SIGKILL");
    if (child.exitCode === null) await new Promise((resolve) => child.once("exit", resolve));
  });
  return port;
}

/** The certificate that is shown for a name; undefined when nobody opens TLS for it. */
function shown(port: number, servername: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port, servername, rejectUnauthorized: false });
    socket.once("secureConnect", () => {
      resolve(socket.getPeerX509Certificate()?.fingerprint256);
      socket.destroy();
    });
    socket.once("error", () => resolve(undefined)).once("close", () => resolve(undefined));
  });
}

test("an Envoy serves names whose files are there at once, takes late and renewed files, and keeps the last good ones", async (context) => {
  needs(context, "envoy");
  const dir = scratchDir();
  const root = await testAuthority();
  const [first, second, late] = [
    await root.issue({ dns: ["a.test"] }),
    await root.issue({ dns: ["a.test"] }),
    await root.issue({ dns: ["b.test"] }),
  ];
  const write = (name: string, { certChainPem, privateKeyPem }: typeof first) => {
    for (const [end, text] of [
      ["crt", certChainPem],
      ["key", privateKeyPem],
    ] as const) {
      writeFileSync(join(dir, "new"), text);
      renameSync(join(dir, "new"), join(dir, `${name}.${end}`));
    }
  };
  const print = ({ certChainPem }: typeof first) => new X509Certificate(certChainPem).fingerprint256;
  write("a", first);
  const port = await envoyWith(dir, { "a.test": join(dir, "a"), "b.test": join(dir, "b") });
  const a = () => shown(port, "a.test");
  await expect.poll(a, { timeout: 10_000, interval: 50 }).toBe(print(first));
  expect(await shown(port, "b.test")).toBeUndefined();
  write("b", late);
  await expect.poll(() => shown(port, "b.test"), { timeout: 5_000, interval: 100 }).toBe(print(late));
  write("a", second);
  await expect.poll(a, { timeout: 5_000, interval: 100 }).toBe(print(second));
  writeFileSync(join(dir, "a.key"), "broken");
  // The third look after that has seen it: late's files are news by then.
  write("b", second);
  await expect.poll(() => shown(port, "b.test"), { timeout: 5_000, interval: 100 }).toBe(print(second));
  expect(await a()).toBe(print(second));
}, 40_000);
