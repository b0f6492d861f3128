import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { onTestFinished } from "vitest";
import {
  type AdsClient,
  type Change,
  type ClientSecurity,
  type ClientTlsMaterial,
  type Interest,
  openChannel,
  type Refusal,
  startAdsClient,
} from "../../ads/index.ts";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../../base/index.ts";
import {
  Authority,
  certificateClient,
  createIntermediate,
  createRoot,
  encodeCsr,
  jwksOf,
  loadCacerts,
  makeKeyPair,
  makeTokenKey,
  mintToken,
  writeCacerts,
} from "../../ca/index.ts";
import { defaultMeshSettings } from "../../model/index.ts";
import { NodeSchema } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { type TypeUrl, typeUrls } from "../../proto/index.ts";
import { scratchDir } from "../../testing/index.ts";
import { type Ip, parseIp, parseSpiffeId, type SocketAddress } from "../../values/index.ts";
import type { ControlConfig, ControlDeps } from "../config.ts";
import { type ControlPlane, startControlPlane } from "../control-plane.ts";

export const loopback = parseIp("127.0.0.1") as Ip;
export const free: SocketAddress = { ip: loopback, port: 0 };
export const serverName = "isthmus.isthmus-system.svc";
export const tokenKey = makeTokenKey("lab");
/** One root for all tests of a file: making it is not what they are about. */
export const root = createRoot({ nowMs: systemClock.now() });

/** Folders of a control plane's own: manifests, CA files, keys of tokens. */
export function folders() {
  const dir = scratchDir();
  const at = {
    config: join(dir, "config"),
    cacerts: join(dir, "cacerts"),
    tokens: join(dir, "tokens.json"),
    dir,
  };
  writeCacerts(at.cacerts, createIntermediate({ nowMs: systemClock.now(), issuer: root, cluster: "cluster1" }));
  writeFileSync(at.tokens, jwksOf([tokenKey]));
  return at;
}

export type Folders = ReturnType<typeof folders>;

/** All on loopback, at ports that are free. */
export function configOf(at: Folders, changes: Partial<ControlConfig> = {}): ControlConfig {
  return {
    mesh: { ...defaultMeshSettings, cluster: "cluster1" },
    configDirs: [at.config],
    kubernetes: undefined,
    cacertsDir: at.cacerts,
    demo: false,
    secure: free,
    plaintext: free,
    tokenKeysFile: at.tokens,
    dns: { listen: free, forwardTo: [] },
    admin: { host: loopback, port: 0 },
    health: undefined,
    webhooks: undefined,
    workloadCertTtlMs: undefined,
    addresses: [loopback],
    ...changes,
  };
}

export function depsOf(): ControlDeps {
  return { clock: systemClock, random: () => 0.5, log: silentLogger, metrics: new Metrics() };
}

/** A scope that ends with the test. */
export function testScope(): Scope {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  return scope;
}

export interface Running extends ControlPlane {
  readonly at: Folders;
  readonly scope: Scope;
  /** Writes one file of the folder. */
  write(name: string, text: string): void;
  remove(name: string): void;
  /** A path of the admin API. */
  ask(path: string): Promise<unknown>;
}

export async function running(at: Folders, changes: Partial<ControlConfig> = {}): Promise<Running> {
  const scope = testScope();
  const plane = await startControlPlane(configOf(at, changes), depsOf(), scope);
  return {
    ...plane,
    at,
    scope,
    write: (name, text) => writeFileSync(join(at.config, name), text),
    remove: (name) => rmSync(join(at.config, name)),
    ask: async (path) => (await fetch(`http://127.0.0.1:${plane.ports.admin}${path}`)).json(),
  };
}

/** A certificate of the plane's own CA, for whoever; also for those that a CSR would never get. */
export async function certificateOf(
  at: Folders,
  identity: string,
  trustDomain = "cluster.local",
): Promise<ClientTlsMaterial> {
  const cacerts = await loadCacerts(at.cacerts, { nowMs: systemClock.now(), demo: "allowed" });
  const authority = new Authority({ cacerts: new Cell(cacerts), clock: systemClock, settings: { trustDomain } });
  const keys = makeKeyPair("ec-p256");
  const issued = authority.sign(encodeCsr(keys.privateKey), parseSpiffeId(identity)!);
  return {
    certChainPem: [issued.certificate, ...issued.intermediates].join(""),
    privateKeyPem: keys.privateKey.export({ format: "pem", type: "pkcs8" }) as string,
    rootsPem: root["root-cert.pem"],
  };
}

/** A certificate of the plane's own CA with names that the CA itself would never sign: `URI:…,DNS:…`. */
export function opensslCertificate(at: Folders, names: string): ClientTlsMaterial {
  const file = (name: string) => join(at.dir, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "pipe" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file("odd-key.pem")];
  openssl("req", "-new", ...key, "-subj", "/O=odd", "-out", file("odd.csr"));
  writeFileSync(file("odd.ext"), `keyUsage=digitalSignature\nextendedKeyUsage=clientAuth\nsubjectAltName=${names}\n`);
  const ca = ["-CA", join(at.cacerts, "ca-cert.pem"), "-CAkey", join(at.cacerts, "ca-key.pem"), "-CAcreateserial"];
  openssl(
    "x509",
    "-req",
    "-in",
    file("odd.csr"),
    ...ca,
    "-days",
    "1",
    "-extfile",
    file("odd.ext"),
    "-out",
    file("odd.pem"),
  );
  return {
    certChainPem: readFileSync(file("odd.pem"), "utf8") + readFileSync(join(at.cacerts, "ca-cert.pem"), "utf8"),
    privateKeyPem: readFileSync(file("odd-key.pem"), "utf8"),
    rootsPem: root["root-cert.pem"],
  };
}

export function secured(material: ClientTlsMaterial): ClientSecurity {
  return { kind: "tls", material: new Cell(material), expect: { kind: "dns", name: serverName } };
}

/** A certificate request over the wire, with a token, a certificate, or neither. */
export function certificatesOf(
  plane: Running,
  options: { readonly material?: ClientTlsMaterial; readonly tokenFile?: string },
) {
  const channel = openChannel(
    {
      target: `127.0.0.1:${plane.ports.secure}`,
      security: secured(options.material ?? { rootsPem: root["root-cert.pem"] }),
    },
    plane.scope,
  );
  return certificateClient({
    channel,
    clock: systemClock,
    ...(options.tokenFile === undefined ? {} : { tokenFile: options.tokenFile }),
  });
}

export async function tokenFile(
  at: Folders,
  of: { readonly namespace: string; readonly serviceAccount: string; readonly key?: typeof tokenKey },
) {
  const file = join(at.dir, `token-${of.namespace}-${of.serviceAccount}`);
  const { key = tokenKey, namespace, serviceAccount } = of;
  writeFileSync(file, await mintToken(key, { namespace, serviceAccount, ttlMs: 600_000, nowMs: systemClock.now() }));
  return file;
}

export interface Proxy {
  readonly client: AdsClient;
  /** What came, in order. */
  readonly changes: Change[];
  /** Names of what it has, of one type. */
  names(type: TypeUrl): ReadonlySet<string>;
}

/** A sidecar of namespace foo over the given connection; `refuse` says what it will not take, and why. */
export function proxyOn(options: {
  readonly target: string;
  readonly security: ClientSecurity;
  readonly scope: Scope;
  readonly namespace?: string;
  readonly refuse?: (change: Change) => readonly Refusal[];
}): Proxy {
  const { target, security, scope, namespace = "foo", refuse = () => [] } = options;
  const changes: Change[] = [];
  const has = new Map<TypeUrl, Set<string>>();
  const all: Interest = { all: true, names: new Set() };
  const client = startAdsClient(
    {
      target,
      security,
      node: () =>
        create(NodeSchema, {
          id: `sidecar~10.0.0.1~sleep.${namespace}~${namespace}.svc.cluster.local`,
          metadata: { NAMESPACE: namespace, CLUSTER_ID: "cluster1" },
        }),
      interests: new Map([
        [typeUrls.cluster, all],
        [typeUrls.listener, all],
        [typeUrls.names, all],
      ]),
      apply(change) {
        changes.push(change);
        const names = has.get(change.typeUrl) ?? new Set<string>();
        has.set(change.typeUrl, names);
        const refused = refuse(change);
        for (const { name } of change.updated) if (!refused.some((one) => one.name === name)) names.add(name);
        for (const name of change.removed) names.delete(name);
        return refused;
      },
      clock: systemClock,
      random: () => 0.5,
      log: silentLogger,
      backoff: { firstMs: 20, maxMs: 200 },
    },
    scope,
  );
  return { client, changes, names: (type) => has.get(type) ?? new Set() };
}

/** A service of another cluster, as people write it. */
export function entry(of: {
  readonly host: string;
  readonly port?: number;
  readonly endpoint?: string;
  readonly endpointPort?: number;
  readonly vip?: string;
  readonly protocol?: string;
  readonly location?: string;
}): string {
  const {
    host,
    port = 8000,
    endpoint = "10.9.9.9",
    endpointPort = 15443,
    vip,
    protocol = "http",
    location = "MESH_INTERNAL",
  } = of;
  return `apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata:
  name: ${host.replaceAll(".", "-")}
  namespace: foo
spec:
  hosts:
  - ${host}
  location: ${location}
  ports:
  - name: port1
    number: ${port}
    protocol: ${protocol}
  resolution: STATIC
${vip ? `  addresses:\n  - ${vip}\n` : ""}  endpoints:
  - address: ${endpoint}
    ports:
      port1: ${endpointPort}
`;
}

/** A port that was free a moment ago, for what is told its port and does not say which it took. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address ? address.port : 0;
}

/** A Service of the cluster itself, on port 8000. */
export function service(of: { readonly name: string; readonly namespace: string; readonly ip: string }): string {
  return `apiVersion: v1
kind: Service
metadata:
  name: ${of.name}
  namespace: ${of.namespace}
spec:
  clusterIP: ${of.ip}
  ports:
  - name: http
    port: 8000
`;
}
