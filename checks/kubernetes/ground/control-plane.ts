import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Finished, must, run } from "../../../src/lab/run.ts";
import { apiserverLine, controllersLine, etcdLine, type Files, schedulerLine } from "./command-lines.ts";
import { type Credentials, makeCredentials } from "./credentials.ts";
import { type Context, kubeconfigText } from "./kubeconfig.ts";
import type { Machinery } from "./machinery.ts";
import { GroundProgram } from "./program.ts";

/** Where a control plane runs. All of its programs share one network namespace. */
export interface Place {
  /** What comes before each command, such as `nsenter -t PID -n`; empty for where we are. */
  readonly enter: readonly string[];
  /** The address that the API server listens on, port `port`. */
  readonly listen: string;
  readonly port: number;
  /** What the endpoint of the Service `kubernetes` says; an address that pods reach, not a loopback one. */
  readonly advertise: string;
  /** Ports of etcd on loopback: for clients, for peers. */
  readonly etcdPorts: readonly [number, number];
}

export interface ControlPlaneOptions {
  readonly name: string;
  readonly machinery: Machinery;
  /** For certificates, data and logs; it has to be there, and is not removed. */
  readonly folder: string;
  readonly place: Place;
  /** More addresses and names for the API server's certificate: those by which it is reached from elsewhere. */
  readonly names?: readonly string[];
  /** Default 10.96.0.0/16; the Service `kubernetes` has its first address. */
  readonly serviceCidr?: string;
  /** Whether Deployments become pods, and tokens, endpoints and root certificates are made. Default true. */
  readonly controllers?: boolean;
  /** Whether pods are bound to nodes. Default true; somebody has to make Node objects. */
  readonly scheduler?: boolean;
}

/** A running control plane. Its programs can be ended and started again one by one; data outlives them. */
export interface ControlPlane {
  readonly name: string;
  readonly credentials: Credentials;
  readonly etcd: GroundProgram;
  readonly apiserver: GroundProgram;
  readonly controllers: GroundProgram;
  readonly scheduler: GroundProgram;
  /** The kubeconfig of a cluster-admin, for use at the place itself. */
  readonly kubeconfig: string;
  /** Cluster-admin for a kubeconfig of one's own; `server` is `https://address:port` as it is seen from there. */
  contextAt(server: string, name?: string): Context;
  /** kubectl as cluster-admin at the place itself. */
  kubectl(args: readonly string[], input?: string): Promise<Finished>;
  /** Resolves when the API server says that it is ready; throws with its last words after `patienceMs`. */
  ready(): Promise<void>;
  /** Forgets etcd's history up to now: what somebody has seen before can then not be gone on from. */
  compact(): Promise<void>;
  stop(): Promise<void>;
}

/** Beside other work a control plane takes its time, and what stands on it, in hooks, is not tried a second time. */
const patienceMs = 180_000;

export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { name, machinery, folder, place, serviceCidr = "10.96.0.0/16" } = options;
  const credentials = makeCredentials(name, Date.now());
  const local = `https://${place.listen}:${place.port}`;
  const contextAt = (server: string, contextName = name): Context => ({
    name: contextName,
    server,
    ca: credentials.ca,
    user: credentials.issue({ commonName: "kubernetes-admin", organization: "system:masters" }),
  });
  const files = writeFiles(options, credentials, contextAt(local));
  const program = (title: string, argv: readonly string[]) =>
    new GroundProgram([...place.enter, ...argv], join(folder, `${title}.log`));
  const plane = {
    etcd: program("etcd", etcdLine(machinery, files, place)),
    apiserver: program("kube-apiserver", apiserverLine(machinery, files, place, serviceCidr)),
    controllers: program("kube-controller-manager", controllersLine(machinery, files, serviceCidr)),
    scheduler: program("kube-scheduler", schedulerLine(machinery, files)),
  };
  const kubectl = (args: readonly string[], input?: string) =>
    run([...place.enter, ...machinery.kubectl, "--kubeconfig", files.admin, ...args], {
      timeoutMs: 200_000,
      ...(input === undefined ? {} : { input }),
    });
  const ready = async () => {
    const deadline = Date.now() + patienceMs;
    for (;;) {
      const answer = await kubectl(["get", "--raw=/readyz", "--request-timeout=5s"]);
      if (answer.code === 0) return;
      for (const [title, it] of [
        ["etcd", plane.etcd],
        ["kube-apiserver", plane.apiserver],
      ] as const) {
        if (!it.running) throw new Error(`${title} of ${name} has ended:\n${it.lastWords()}`);
      }
      if (Date.now() > deadline) {
        throw new Error(`${name} is not ready: ${answer.stderr}\n${plane.apiserver.lastWords()}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  };
  const stop = async () => {
    await Promise.all([plane.controllers.stop(), plane.scheduler.stop(), plane.apiserver.stop(), plane.etcd.stop()]);
  };
  const etcdCall = (path: string, body: object) =>
    must(`etcd of ${name}`, [
      ...[...place.enter, "curl", "-sS", "--fail", "-m", "10", "-X", "POST", "-d", JSON.stringify(body)],
      `http://127.0.0.1:${place.etcdPorts[0]}${path}`,
    ]);
  try {
    plane.etcd.start();
    plane.apiserver.start();
    await ready();
    if (options.controllers !== false) plane.controllers.start();
    if (options.scheduler !== false) plane.scheduler.start();
    if (options.controllers !== false) await defaultAccount(kubectl, plane.controllers);
  } catch (caught) {
    await stop();
    throw caught;
  }
  return {
    name,
    credentials,
    ...plane,
    kubeconfig: files.admin,
    contextAt,
    kubectl,
    ready,
    async compact() {
      const seen = JSON.parse(await etcdCall("/v3/kv/range", { key: "AA==", limit: 1 })) as {
        header: { revision: string };
      };
      await etcdCall("/v3/kv/compaction", { revision: seen.header.revision, physical: true });
    },
    stop,
  };
}

/** Nothing can run in a namespace before its account `default` is there, which the controllers make. */
async function defaultAccount(kubectl: ControlPlane["kubectl"], controllers: GroundProgram): Promise<void> {
  const deadline = Date.now() + patienceMs;
  while ((await kubectl(["get", "serviceaccount", "default", "-n", "default"])).code !== 0) {
    if (!controllers.running) throw new Error(`kube-controller-manager has ended:\n${controllers.lastWords()}`);
    if (Date.now() > deadline) throw new Error(`no account "default" yet:\n${controllers.lastWords()}`);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

function writeFiles(options: ControlPlaneOptions, credentials: Credentials, admin: Context): Files {
  const { folder, place, names = [] } = options;
  mkdirSync(join(folder, "etcd"), { recursive: true, mode: 0o700 });
  const write = (name: string, text: string) => {
    const file = join(folder, name);
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  };
  const pair = (name: string, request: Parameters<Credentials["issue"]>[0]) => {
    const { certificate, key } = credentials.issue(request);
    return { certificate: write(`${name}.crt`, certificate), key: write(`${name}.key`, key) };
  };
  const as = (commonName: string) => kubeconfigText([{ ...admin, user: credentials.issue({ commonName }) }]);
  const serviceIp = (options.serviceCidr ?? "10.96.0.0/16").replace(/\d+\/\d+$/, "1");
  const service = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
  ];
  return {
    ca: write("ca.crt", credentials.ca),
    server: pair("apiserver", {
      commonName: "kube-apiserver",
      names: [...new Set(["127.0.0.1", "localhost", serviceIp, place.listen, place.advertise, ...service, ...names])],
    }),
    kubelet: pair("kubelet-client", { commonName: "kube-apiserver-kubelet-client", organization: "system:masters" }),
    proxy: pair("front-proxy-client", { commonName: "front-proxy-client" }),
    accountKey: write("accounts.key", credentials.accounts.privateKey),
    accountPublicKey: write("accounts.pub", credentials.accounts.publicKey),
    admin: write("admin.kubeconfig", kubeconfigText([admin])),
    controllers: write("controllers.kubeconfig", as("system:kube-controller-manager")),
    scheduler: write("scheduler.kubeconfig", as("system:kube-scheduler")),
    etcdData: join(folder, "etcd"),
  };
}
