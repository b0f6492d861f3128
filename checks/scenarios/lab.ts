import { readdirSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { toolEnv } from "../../src/lab/enclosure.ts";
import { runInPod } from "../../src/lab/exec.ts";
import type { DataPlane, LabStatus } from "../../src/lab/index.ts";
import { askLab, type TargetPlace } from "../../src/lab/protocol.ts";
import { labVariables, type Variables } from "../../src/lab/variables.ts";
import { isthmus, root } from "../e2e/isthmus.ts";
import { Caller } from "./caller.ts";
import { castFolder, homeOf, placeOf } from "./places.ts";

export type PlainObject = Readonly<Record<string, unknown>>;

export interface ObjectName {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

export const clusters = ["cluster1", "cluster2"] as const;

/** How long news may take from an object that was applied to the last proxy. */
const settleMs = 60_000;

/** What of `/debug/syncz` is looked at. */
interface Synced {
  readonly proxy: string;
  readonly settled: boolean;
  readonly types: Readonly<Record<string, { readonly state: string; readonly reason?: string }>>;
}

interface ProxyAdmin {
  readonly pod: string;
  readonly namespace: string;
  readonly cluster: string;
  readonly admin: string;
}

/** Nobody answered at an admin socket. */
class Unanswered extends Error {}

/** A lab with the scenarios' cast, brought up once for one data plane. */
export class ScenarioLab {
  readonly name: string;
  readonly variables: Variables;
  readonly folder: string;
  readonly #callers = new Map<string, Caller>();
  readonly #counted = new Set<string>();
  readonly #controlPlanes: readonly { readonly cluster: string; readonly admin: string }[];

  private constructor(status: LabStatus) {
    this.name = status.name;
    this.folder = status.stateFolder;
    this.variables = labVariables(status.clusters.map(({ name }) => name));
    this.#controlPlanes = status.clusters.map(({ name, controlPlane }) => ({
      cluster: name,
      admin: controlPlane.admin,
    }));
  }

  static async up(dataPlane: DataPlane): Promise<ScenarioLab> {
    const name = `${process.env["ISTHMUS_SCENARIO_LAB"] ?? "scenarios"}-${dataPlane}-${process.pid}`;
    const gateways = ["--egress-gateway", "cluster1"];
    const up = await isthmus(
      ["lab", "up", "--name", name, "--mode", "netns", "--data-plane", dataPlane, ...gateways, "-f", castFolder],
      { timeoutMs: 300_000 },
    );
    if (up.code !== 0) {
      await isthmus(["lab", "down", "--name", name]);
      throw new Error(`the lab did not come up\n${up.stdout}\n${up.stderr}`);
    }
    return new ScenarioLab(await askLab(name, { op: "status" }));
  }

  async down(): Promise<void> {
    for (const caller of this.#callers.values()) caller.close();
    await isthmus(["lab", "down", "--name", this.name]);
  }

  /** Applies objects as they stand; throws with the lab's own words when they are refused. */
  async apply(cluster: string, objects: readonly PlainObject[]): Promise<void> {
    if (objects.length === 0) return;
    const text = objects.map((object) => JSON.stringify(object)).join("\n---\n");
    await askLab(this.name, { op: "apply", cluster, text, file: "scenario", namespace: homeOf(cluster) });
  }

  async delete(cluster: string, objects: readonly ObjectName[]): Promise<void> {
    if (objects.length > 0) await askLab(this.name, { op: "delete", cluster, objects });
  }

  async scale(text: string, replicas: number | undefined): Promise<void> {
    const place = placeOf(text);
    const how = replicas === undefined ? {} : { replicas };
    await askLab(this.name, { op: "scale", lab: this.name, ...place, ...how, graceMs: 0 });
  }

  async signal(text: string, signal: "SIGSTOP" | "SIGCONT"): Promise<void> {
    await askLab(this.name, { op: "signal", lab: this.name, ...placeOf(text), signal });
  }

  /** Ends the proxy of a workload's pod, or a control plane. */
  async crash(text: string): Promise<void> {
    const container = text.endsWith("/controlplane") ? "controlplane" : "istio-proxy";
    await askLab(this.name, { op: "crash", ...placeOf(text), container, signal: "SIGKILL" });
  }

  places(text: string, container?: string): Promise<readonly TargetPlace[]> {
    const which = container === undefined ? {} : { container };
    return askLab(this.name, { op: "targets", lab: this.name, ...placeOf(text), ...which });
  }

  /** The program that calls from this workload, started when it is first needed. */
  async caller(text: string): Promise<Caller> {
    const known = this.#callers.get(text);
    if (known && !known.ended) return known;
    const [place] = await this.places(text);
    const program = join(root, process.env["ISTHMUS_DIST"] ?? "dist", "lab/apps/caller.js");
    const caller = new Caller({ folder: this.folder, place: place!, program });
    this.#callers.set(text, caller);
    return caller;
  }

  /** Log files of all applications, which tell of every request that reached one. */
  appLogs(): readonly string[] {
    return clusters.flatMap((cluster) => {
      const folder = join(this.folder, "logs", cluster);
      return readdirSync(folder)
        .filter((file) => file.endsWith(".log") && !/\.istio-proxy\.log$|^controlplane|^resolver/.test(file))
        .map((file) => join(folder, file));
    });
  }

  controlPlaneLogs(): readonly string[] {
    return clusters.map((cluster) => join(this.folder, "logs", cluster, "controlplane.log"));
  }

  /**
   * Resolves when everything that was applied holds everywhere: pods run, control planes have compiled it, every proxy
   * has taken it and put it to work. Throws when one refuses it, or when it takes too long. Frozen proxies are left out.
   */
  async settle(frozen: ReadonlySet<string>): Promise<void> {
    await askLab(this.name, { op: "settle" });
    const until = performance.now() + settleMs;
    let read = false;
    for (;;) {
      let restless: readonly string[];
      try {
        if (!read) await Promise.all(this.#controlPlanes.map(({ admin }) => ask(admin, "/debug/read-now", "POST")));
        read = true;
        restless = await this.#restless(frozen);
      } catch (caught) {
        // A program that was killed and is not back yet.
        if (!(caught instanceof Unanswered)) throw caught;
        restless = [caught.message];
      }
      if (restless.length === 0) return;
      if (performance.now() > until)
        throw new Error(`not at rest after ${settleMs / 1000} s: ${restless.slice(0, 5).join("; ")}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async #restless(frozen: ReadonlySet<string>): Promise<readonly string[]> {
    const told = await Promise.all(
      this.#controlPlanes.map(async ({ cluster, admin }) =>
        (JSON.parse(await ask(admin, "/debug/syncz")) as readonly Synced[]).map((proxy) => ({ ...proxy, cluster })),
      ),
    );
    const proxies = told.flat();
    const refusals = proxies.flatMap(({ cluster, proxy, types }) =>
      Object.entries(types).flatMap(([type, { state, reason }]) =>
        state === "refusing" ? [`${cluster}: ${proxy} refuses ${type}: ${reason}`] : [],
      ),
    );
    if (refusals.length > 0) throw new Error(`configuration was refused:\n${refusals.join("\n")}`);
    const connected = new Set(proxies.map(({ cluster, proxy }) => `${cluster} ${proxy.split("~")[2]}`));
    const pods = await this.#proxyAdmins();
    const absent = pods.filter(
      ({ pod, cluster, namespace }) => !frozen.has(pod) && !connected.has(`${cluster} ${pod}.${namespace}`),
    );
    if (absent.length > 0) return absent.map(({ pod, cluster }) => `${cluster}: ${pod} is not connected`);
    const waiting = proxies
      .filter(({ settled, proxy }) => !settled && ![...frozen].some((pod) => proxy.includes(pod)))
      .map(({ cluster, proxy }) => `${cluster}: ${proxy} has not answered yet`);
    if (waiting.length > 0) return waiting;
    return this.#warming(frozen);
  }

  /** Proxies that took what they were told and still wait for parts of it. */
  async #warming(frozen: ReadonlySet<string>): Promise<readonly string[]> {
    const status = await this.#proxyAdmins();
    const told = await Promise.all(
      status
        .filter(({ pod }) => !frozen.has(pod))
        .map(async ({ pod, admin }) => {
          const { warming } = JSON.parse(await ask(admin, "/warming")) as { warming: number };
          return warming === 0 ? [] : [`${pod} puts ${warming} listeners and clusters to work`];
        }),
    );
    return told.flat();
  }

  #admins: Promise<readonly ProxyAdmin[]> | undefined;

  /** Asked again after pods have come or gone. */
  forgetPods(): void {
    this.#admins = undefined;
  }

  #proxyAdmins(): Promise<readonly ProxyAdmin[]> {
    this.#admins ??= (async () => {
      const { clusters: all } = await askLab(this.name, { op: "status" });
      const pods = all.flatMap((cluster) => cluster.pods.map(({ name, namespace }) => ({ cluster, name, namespace })));
      const places = await Promise.all(
        pods.map(async ({ cluster, name, namespace }) => {
          const which = { lab: this.name, cluster: cluster.name, workload: name, namespace };
          return { ...(await askLab(this.name, { op: "target", ...which })), cluster: cluster.name, namespace };
        }),
      );
      return places.flatMap(({ pod, admin, cluster, namespace }) =>
        admin === undefined ? [] : [{ pod, admin, cluster, namespace }],
      );
    })();
    return this.#admins;
  }

  /**
   * Packets with more in them than a handshake's end, a ping or an alert, that came to all pods of a gateway from
   * anyone but the control plane. Counted by the kernel, so that the proxy that is tested need not be believed.
   */
  async packetsAt(gateway: string): Promise<number> {
    const places = await this.places(gateway).catch(() => []);
    let total = 0;
    for (const place of places) {
      const key = `${place.pod}`;
      // Nor the lab's own questions: whether the gateway is ready, and what its admin interface says.
      const own = "-p tcp ! -i lo ! --sport 15012 -m multiport ! --dports 15020,15021 -m length --length 120:65535";
      const count = "iptables -w -t mangle -nvxL INPUT";
      const first = this.#counted.has(key) ? "" : `iptables -w -t mangle -I INPUT ${own} && `;
      const ran = await runInPod({
        folder: this.folder,
        place: { ...place, env: { PATH: toolEnv()["PATH"] ?? "" } },
        command: ["sh", "-c", `${first}${count}`],
        stdio: "pipe",
      });
      if (ran.code !== 0) throw new Error(`packets at ${gateway} cannot be counted: ${ran.stderr}`);
      this.#counted.add(key);
      total += Number(/^\s*(\d+)/m.exec(ran.stdout.split("\n").slice(2).join("\n"))?.[1] ?? 0);
    }
    return total;
  }

  /** The objects of the cast, to put back what a scenario changed of it. */
  castObject(cluster: string, wanted: ObjectName): PlainObject | undefined {
    return castOf(cluster).find((object) => {
      const { kind, namespace, name } = nameOf(object, cluster);
      return kind === wanted.kind && name === wanted.name && namespace === wanted.namespace;
    });
  }

  /** The variables' values in place of their names, anywhere in a value; a text that is all port becomes a number. */
  fill<T>(value: T): T {
    const text = JSON.stringify(value)
      .replaceAll(/"\$\{([A-Z0-9_]+_PORT)\}"/g, (whole, name: string) => this.variables[name] ?? whole)
      .replaceAll(/\$\{([A-Z][A-Z0-9_]*)\}/g, (whole, name: string) => this.variables[name] ?? whole);
    return JSON.parse(text) as T;
  }

  /** What a cluster's control plane finds wrong, one text each. */
  async problems(cluster: string): Promise<readonly string[]> {
    const { admin } = this.#controlPlanes.find((one) => one.cluster === cluster)!;
    const lines = JSON.parse(await ask(admin, "/problems")) as readonly Readonly<Record<string, string>>[];
    return lines.map(({ where, message, code }) => `${where}: ${message} (${code})`);
  }
}

export function nameOf(object: PlainObject, cluster: string): ObjectName {
  const { name = "", namespace = homeOf(cluster) } = object["metadata"] as { name?: string; namespace?: string };
  return { kind: String(object["kind"]), namespace, name };
}

const castByCluster = new Map<string, readonly PlainObject[]>();

function castOf(cluster: string): readonly PlainObject[] {
  const known = castByCluster.get(cluster);
  if (known) return known;
  const folder = join(castFolder, cluster);
  const read = readdirSync(folder).flatMap((file) =>
    parseAllDocuments(readFileSync(join(folder, file), "utf8")).map((document) => document.toJS() as PlainObject),
  );
  castByCluster.set(cluster, read);
  return read;
}

/** One question to an admin socket. Throws when it is not answered well. */
function ask(socketPath: string, path: string, method = "GET"): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, method, timeout: 15_000, headers: { host: "admin" } }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => {
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`${method} ${path} of ${socketPath} answered ${response.statusCode}: ${text}`));
      });
      response.on("error", reject);
    });
    call.on("timeout", () => call.destroy(new Error(`${method} ${path} of ${socketPath} was not answered`)));
    call.on("error", (error) => reject(new Unanswered(`${path} of ${socketPath}: ${error.message}`)));
    call.end();
  });
}
