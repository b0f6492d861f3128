import { randomUUID } from "node:crypto";
import { certificateValue } from "../../scenarios/certificates.ts";
import type { Order } from "../../src/lab/apps/caller/order.ts";
import type { Call, Event, Scenario } from "./format.ts";
import { type AccessLine, type AppLine, type Evidence, flagsOf, judge, matches } from "./judge.ts";
import { nameOf, type ObjectName, type PlainObject, type ScenarioLab } from "./lab.ts";
import { NewLines } from "./new-lines.ts";
import { homeOf } from "./places.ts";

/** How long logs may come after what they tell of. */
const logMs = 10_000;
const logPollMs = 25;

/** Runs one scenario and takes away all that it brought. Throws with everything that was not as it should be. */
export async function runScenario(lab: ScenarioLab, scenario: Scenario): Promise<void> {
  const run = new ScenarioRun(lab);
  const told = new NewLines();
  for (const file of lab.controlPlaneLogs()) told.skip(file);
  let failure: unknown;
  try {
    if (scenario.refused) await run.mustRefuse(scenario.refused);
    else {
      for (const [cluster, objects] of Object.entries(scenario.clusters)) await run.apply(cluster, objects);
      await run.settle();
      for (const [index, step] of scenario.steps.entries()) {
        if ("expect" in step) await run.call(step, `step ${index + 1}${step.call ? ` (${step.call})` : ""}`);
        else await run.happen(step);
      }
    }
  } catch (caught) {
    failure = caught;
  }
  try {
    await run.undo();
  } catch (caught) {
    failure ??= caught;
  }
  if (failure) throw failure;
  const complaints = lab.controlPlaneLogs().flatMap((file) => told.from(file).filter(isComplaint));
  if (complaints.length > 0) throw new Error(`a control plane complained:\n${complaints.join("\n")}`);
}

/** What must not happen whatever is applied: a proxy that refuses what it is sent, a bug of ours. */
function isComplaint(line: string): boolean {
  return /proxy refused configuration|mesh not rebuilt|configuration not made/.test(line);
}

class ScenarioRun {
  readonly #lab: ScenarioLab;
  /** What there was to take away, newest last; by cluster. */
  readonly #applied = new Map<string, Map<string, ObjectName>>();
  readonly #deleted = new Map<string, PlainObject[]>();
  readonly #stopped = new Set<string>();
  readonly #frozen = new Map<string, readonly string[]>();

  constructor(lab: ScenarioLab) {
    this.#lab = lab;
  }

  async apply(cluster: string, objects: readonly PlainObject[]): Promise<void> {
    const filled = this.#lab.fill(objects).map(withCertificates);
    const applied = this.#applied.get(cluster) ?? new Map<string, ObjectName>();
    this.#applied.set(cluster, applied);
    for (const object of filled) {
      const name = nameOf(object, cluster);
      applied.set(JSON.stringify(name), name);
    }
    await this.#lab.apply(cluster, filled);
    if (filled.some(({ kind }) => kind === "Deployment" || kind === "Pod")) this.#lab.forgetPods();
  }

  async mustRefuse(refused: NonNullable<Scenario["refused"]>): Promise<void> {
    const { cluster, objects, message } = refused;
    try {
      await this.apply(cluster, objects);
    } catch (caught) {
      this.#applied.clear();
      const said = (caught as Error).message;
      if (holds(said, message)) return;
      throw new Error(`must be refused with ${JSON.stringify(message)}, was refused with ${JSON.stringify(said)}`);
    }
    throw new Error(`must be refused with ${JSON.stringify(message)}, and was taken`);
  }

  settle(): Promise<void> {
    return this.#lab.settle(new Set([...this.#frozen.values()].flat()));
  }

  async happen(event: Event): Promise<void> {
    for (const [cluster, objects] of Object.entries(event.apply ?? {})) await this.apply(cluster, objects);
    for (const [cluster, names] of Object.entries(event.delete ?? {})) await this.#delete(cluster, names);
    for (const place of event.stop ?? []) await this.#stop(place);
    for (const place of event.start ?? []) await this.#start(place);
    for (const place of event.freeze ?? []) {
      this.#frozen.set(
        place,
        (await this.#lab.places(place)).map(({ pod }) => pod),
      );
      await this.#lab.signal(place, "SIGSTOP");
    }
    for (const place of event.kill ?? []) await this.#lab.crash(place);
    if (!event.kill) await this.settle();
    if (event.waitMs !== undefined) await sleep(event.waitMs);
    for (const [cluster, words] of Object.entries(event.tells ?? {})) {
      const until = performance.now() + logMs;
      let problems = await this.#lab.problems(cluster);
      const isTold = () => problems.some((problem) => holds(problem, words));
      while (!isTold() && performance.now() < until) {
        await sleep(100);
        problems = await this.#lab.problems(cluster);
      }
      if (isTold()) continue;
      const told = problems.map((problem) => `  ${problem}`).join("\n");
      throw new Error(
        `${cluster} must tell of ${JSON.stringify(words)}, tells of ${problems.length} problems\n${told}`,
      );
    }
  }

  async #delete(cluster: string, names: readonly string[]): Promise<void> {
    const objects = names.map((text): ObjectName => {
      const [kind = "", namespace = "", name] = text.split("/");
      return name === undefined ? { kind, namespace: homeOf(cluster), name: namespace } : { kind, namespace, name };
    });
    await this.#lab.delete(cluster, objects);
    for (const object of objects) {
      this.#applied.get(cluster)?.delete(JSON.stringify(object));
      const ofCast = this.#lab.castObject(cluster, object);
      if (ofCast) this.#deleted.set(cluster, [...(this.#deleted.get(cluster) ?? []), ofCast]);
    }
    this.#lab.forgetPods();
  }

  async #stop(place: string): Promise<void> {
    this.#stopped.add(place);
    await this.#lab.scale(place, 0);
    this.#lab.forgetPods();
  }

  async #start(place: string): Promise<void> {
    if (this.#frozen.delete(place)) await this.#lab.signal(place, "SIGCONT");
    if (this.#stopped.delete(place)) await this.#lab.scale(place, undefined);
    this.#lab.forgetPods();
  }

  /** Everything is as it was before, and holds everywhere. */
  async undo(): Promise<void> {
    for (const place of [...this.#frozen.keys(), ...this.#stopped]) await this.#start(place);
    for (const [cluster, applied] of this.#applied) {
      const names = [...applied.values()].reverse();
      const ofCast = names.map((name) => this.#lab.castObject(cluster, name)).filter((one) => one !== undefined);
      const own = names.filter((name) => !this.#lab.castObject(cluster, name));
      await this.#lab.delete(cluster, own);
      await this.#lab.apply(cluster, ofCast);
      if (names.some(({ kind }) => kind === "Deployment" || kind === "Pod")) this.#lab.forgetPods();
    }
    for (const [cluster, objects] of this.#deleted) await this.#lab.apply(cluster, objects);
    await this.settle();
  }

  /** Makes one step's calls, again and again where news may take its time. */
  async call(step: Call, where: string): Promise<void> {
    const until = performance.now() + (step.withinMs ?? 0);
    for (let strays = 0; ; ) {
      const wrong = await this.#tryCall(step);
      if (wrong.length === 0) return;
      // What earlier calls left on the way may pass a gateway yet. What these calls send there, they send each time.
      if (wrong.filter((text) => !text.startsWith("the caller's proxy")).every(isStray) && strays++ < 2) {
        await sleep(200);
        continue;
      }
      if (performance.now() > until) {
        const late = step.withinMs === undefined ? "" : ` still, after ${step.withinMs} ms`;
        throw new Error(`${where}, from ${step.from}${late}:\n${wrong.map((text) => `  ${text}`).join("\n")}`);
      }
      await sleep(100);
    }
  }

  async #tryCall(step: Call): Promise<readonly string[]> {
    const lab = this.#lab;
    const { expect } = step;
    const key = randomUUID();
    const gateways = [...new Set([...(expect.through ?? []), ...(expect.notThrough ?? [])])];
    const news = new NewLines();
    const proxyLogs = new Map<string, readonly string[]>();
    // The caller's own is read in any case: it has the most to say where something is wrong.
    for (const at of new Set(["", ...flagsOf(expect).map((flag) => flag.at)])) {
      const found = await lab.places(at === "" ? step.from : at, "istio-proxy").catch(() => []);
      const files = found.map(({ logFile }) => logFile);
      proxyLogs.set(at, files);
      for (const file of files) news.skip(file);
    }
    for (const file of lab.appLogs()) news.skip(file);
    const before = await Promise.all(gateways.map((gateway) => lab.packetsAt(gateway)));
    const caller = await lab.caller(step.from);
    const order = orderOf(lab.fill({ ...step, expect: {} } as unknown as Call), key);
    const results = await caller.make(order);
    const after = await Promise.all(gateways.map((gateway) => lab.packetsAt(gateway)));
    const packets = new Map(gateways.map((gateway, index) => [gateway, after[index]! - before[index]!]));
    const ports = new Set(results.map(({ localPort }) => localPort));
    const apps: AppLine[] = [];
    const flags = new Map<string, AccessLine[]>();
    const look = () => {
      for (const file of lab.appLogs()) apps.push(...news.from(file).flatMap((line) => appLine(line, key)));
      // Once per file: two places may be one proxy.
      const fresh = new Map([...new Set([...proxyLogs.values()].flat())].map((file) => [file, news.from(file)]));
      for (const [at, files] of proxyLogs) {
        const lines = files.flatMap((file) => fresh.get(file)!).flatMap(parsedObject);
        flags.set(at, [...(flags.get(at) ?? []), ...lines.filter((line) => isOfCall(line, { key, ports, at, step }))]);
      }
      const evidence: Evidence = { results, apps, flags, packets };
      return judge(lab.fill(expect), evidence);
    };
    let wrong = look();
    // Only what logs tell can come later than the answer.
    const byLogs =
      expect.flag !== undefined ||
      expect.logged !== undefined ||
      expect.reached !== undefined ||
      expect.saw !== undefined ||
      expect.caller !== undefined;
    const until = performance.now() + (step.withinMs === undefined ? logMs : 500);
    while (wrong.length > 0 && byLogs && performance.now() < until) {
      await sleep(logPollMs);
      wrong = look();
    }
    // What the proxy says of it is worth a moment, unless it is asked again anyway.
    for (let more = 0; wrong.length > 0 && !step.withinMs && !flags.get("")?.length && more < 50; more++)
      await sleep(logPollMs).then(look);
    return wrong.length === 0 ? [] : [...wrong, ...storyOf(flags.get("") ?? [])];
  }
}

/** What the program in the pod is told to do. */
function orderOf(step: Call, key: string): Omit<Order, "id"> {
  const { times, parallel, connection, timeoutMs, http, tcp, grpc, websocket, dns } = step;
  // The first tells applications apart from each other's calls, the second proxies' logs.
  const named = (headers: Readonly<Record<string, string>>) => ({
    "x-scenario-key": key,
    "user-agent": `scenario/${key}`,
    ...Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])),
  });
  return {
    times,
    parallel,
    connection,
    timeoutMs,
    ...(http ? { http: { ...http, ...withTls(http.tls), headers: named(http.headers) } } : {}),
    ...(tcp ? { tcp: { ...tcp, ...withTls(tcp.tls) } } : {}),
    ...(grpc ? { grpc: { ...grpc, headers: named(grpc.headers) } } : {}),
    ...(websocket ? { websocket: { ...websocket, headers: named(websocket.headers) } } : {}),
    ...(dns ? { dns } : {}),
  } as Omit<Order, "id">;
}

function withTls(tls: NonNullable<Call["http"]>["tls"]) {
  if (!tls) return {};
  const { sni, trusts, shows, minVersion, maxVersion } = tls;
  return {
    tls: {
      sni,
      ...(minVersion === undefined ? {} : { minVersion: `TLSv${minVersion}` }),
      ...(maxVersion === undefined ? {} : { maxVersion: `TLSv${maxVersion}` }),
      ...(trusts === undefined ? {} : { ca: certificateValue("CA", trusts) }),
      ...(shows === undefined ? {} : { cert: certificateValue("CERT", shows), key: certificateValue("KEY", shows) }),
    },
  };
}

/** An object with `${CERT:name}` and the like in their values' place, base64 as Secrets hold them. */
function withCertificates(object: PlainObject): PlainObject {
  const text = JSON.stringify(object).replaceAll(
    /\$\{(CERT|KEY|CA):([a-z0-9-]+)\}/g,
    (_whole, part: string, name: string) => Buffer.from(certificateValue(part as "CERT", name)).toString("base64"),
  );
  return JSON.parse(text) as PlainObject;
}

function appLine(line: string, key: string): readonly AppLine[] {
  if (!line.includes(key)) return [];
  return parsedObject(line).flatMap((value) => {
    const seen = value as unknown as AppLine;
    return seen.headers?.["x-scenario-key"] === key ? [seen] : [];
  });
}

function isStray(complaint: string): boolean {
  return / packets went through /.test(complaint);
}

/** What the caller's proxy says of the calls, each thing once. */
function storyOf(lines: readonly AccessLine[]): readonly string[] {
  const fields = ["response_code", "response_flags", "duration", "upstream_cluster", "upstream_host", "attempts"];
  const details = ["response_code_details", "upstream_transport_failure_reason", "connection_termination_details"];
  const told = lines.map((line) => {
    const said = [...fields, ...details].flatMap((field) => {
      const value = line[field];
      return value === null || value === undefined || value === "-" ? [] : [`${field} ${String(value)}`];
    });
    return `the caller's proxy: ${said.join(", ")}`;
  });
  return [...new Set(told)].slice(0, 5);
}

function parsedObject(line: string): readonly AccessLine[] {
  if (!line.startsWith("{")) return [];
  try {
    return [JSON.parse(line) as AccessLine];
  } catch {
    return []; // Applications may say what they like.
  }
}

/** Whether a line of an access log is about a step's calls: by its key where HTTP is spoken, else by the caller's port. */
function isOfCall(
  line: AccessLine,
  call: {
    readonly key: string;
    readonly ports: ReadonlySet<number | undefined>;
    readonly at: string;
    readonly step: Call;
  },
): boolean {
  if (!("response_flags" in line)) return false;
  if (line["user_agent"] === `scenario/${call.key}`) return true;
  const port = Number(/:(\d+)$/.exec(String(line["downstream_remote_address"] ?? ""))?.[1]);
  if (call.at === "" && call.ports.has(port)) return true;
  // A connection that ended before it was answered has no port that we know; elsewhere it has another.
  const byConnection = !("method" in line);
  return byConnection && (call.at !== "" || [...call.ports].every((one) => one === undefined));
}

/** Whether a text has these words in it, or matches where they are written as `/…/`. */
function holds(text: string, words: string): boolean {
  return text.includes(words) || (words.startsWith("/") && matches(text, words));
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
