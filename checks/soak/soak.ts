import { askLab } from "../../src/lab/protocol.ts";
import { processes } from "../e2e/belongings.ts";
import { cluster as clusterIn, type TestLab } from "../e2e/lab.ts";
import { startCaller } from "./callers.ts";
import { type Allowed, Judge, type Result } from "./judge.ts";
import { ask, type Pod, podsOf, unsettled } from "./lab.ts";
import { growing, holding, type Sample, sample } from "./memory.ts";
import type { Chance } from "./random.ts";
import { remoteEntry, remotePolicy, routing } from "./world.ts";

// A day in the life of two clusters, in minutes: callers call at a steady rate while rules come and go, pods are added
// and taken, certificates run out, and proxies and control planes are killed. What each answer must be, and when a
// request may fail, is judged as the answers come (judge.ts).
//
// A request may fail, and is counted by the reason, only
// - when nobody is to answer: its host was deleted, or is, or is just being made;
// - when the caller's own proxy was killed, from then until it is ready again: the only way out of the pod;
// - when the gateway before the place that its rule named was killed, until it is ready again: there is one each;
// - over TCP, when a pod of who is to answer was killed: a broken connection cannot be made whole, nor tried again;
// - when no pod of who was to answer was ready, as the lab's own probes see it;
// - when a pod was killed while its answer was half through, which nobody could give again.
// Pods of the services are killed one of a Deployment at a time, so a healthy one is always there; control planes in any
// number. A Deployment is made smaller only while its control plane runs, which alone can tell callers of it.

/** How the soak breaks what it watches without saying so, to show that it sees it. */
export type Break = "none" | "route" | "outage";

export interface SoakOptions {
  readonly lab: TestLab;
  readonly chance: Chance;
  readonly seconds: number;
  /** Whether the proxies of a cluster are Envoys. */
  readonly envoyIn: (cluster: string) => boolean;
  readonly breaking: Break;
  readonly print: (line: string) => void;
}

export interface Report {
  readonly requests: number;
  readonly right: number;
  readonly rightlyNone: number;
  readonly exempt: Readonly<Record<string, number>>;
  readonly wrong: readonly string[];
  readonly failed: readonly string[];
  readonly done: Readonly<Record<string, number>>;
  /** Everything else that must not be. */
  readonly problems: readonly string[];
}

const remote = "echo.bar.global";
const local = "echo.foo.svc.cluster.local";
const back = "echo.foo.global";
const colours = [
  { host: "red.bar.global", vip: "240.0.0.21", other: "240.0.0.31", by: "cluster2 v1" },
  { host: "blue.bar.global", vip: "240.0.0.22", other: "240.0.0.32", by: "cluster2 v2" },
] as const;
const both = ["cluster2 v1", "cluster2 v2"];
const everybody = (backends: readonly string[]): Allowed => ({ plain: backends, marked: backends });
const nobody: Allowed = { plain: [], marked: [] };
const to = (host: string, more: { subset?: string; weight?: number } = {}) => ({
  destination: { host, ...(more.subset ? { subset: more.subset } : {}) },
  ...(more.weight === undefined ? {} : { weight: more.weight }),
});

/** After a change has arrived everywhere, how long an Envoy's workers may go on by the old one. */
const workersMs = 500;
const settleWithinMs = 120_000;
/** Between two killings in one Deployment. */
const restMs = 12_000;

export async function soak(options: SoakOptions): Promise<Report> {
  const { lab, chance, seconds, envoyIn, breaking, print } = options;
  const now = () => Date.now();
  const began = now();
  const judge = new Judge();
  const problems: string[] = [];
  const wrong: string[] = [];
  const failed: string[] = [];
  const exempt: Record<string, number> = {};
  const done: Record<string, number> = {};
  let requests = 0;
  let right = 0;
  let rightlyNone = 0;
  const at = () => `${((now() - began) / 1000).toFixed(1)} s`;
  const history: string[] = [];
  const note = (what: string) => {
    done[what.split(":")[0]!] = (done[what.split(":")[0]!] ?? 0) + 1;
    history.push(`${at()} ${what}`);
  };

  // --- what is said ---
  const status = await askLab(lab.name, { op: "status" });
  const folder = status.stateFolder;
  const gateways = Object.fromEntries(status.clusters.map(({ name, gateway }) => [name, gateway.address]));
  const namespaces: Readonly<Record<string, string>> = { cluster1: "foo", cluster2: "bar" };
  const applied = new Map<string, { cluster: string; kind: string; namespace: string; name: string }>();
  const apply = async (cluster: string, object: Record<string, unknown>) => {
    const { kind, metadata } = object as { kind: string; metadata: { name: string; namespace: string } };
    applied.set(`${cluster} ${kind} ${metadata.name}`, { cluster, kind, ...metadata });
    const text = JSON.stringify(object);
    await askLab(lab.name, { op: "apply", cluster, text, file: "soak", namespace: metadata.namespace });
  };
  const remove = async (cluster: string, kind: string, name: string) => {
    applied.delete(`${cluster} ${kind} ${name}`);
    const objects = [{ kind, namespace: namespaces[cluster]!, name }];
    await askLab(lab.name, { op: "delete", cluster, objects });
  };

  // --- when it holds ---
  const connectionsOf = (pod: Pod) => (envoyIn(pod.cluster) && !pod.gateway ? 2 : 1);
  const waiting = new Set<{ readonly since: number; readonly holds: (ms: number) => void }>();
  const arrive = (holds: (ms: number) => void) => waiting.add({ since: now(), holds });
  /** Looks whether all that was said has arrived, and tells those who wait for it. */
  async function settleOnce(): Promise<string | undefined> {
    const looked = now();
    const why = await unsettled(lab.name, connectionsOf);
    if (why !== undefined) return why;
    for (const one of waiting) {
      if (one.since >= looked) continue;
      waiting.delete(one);
      one.holds(now() + workersMs);
    }
    return undefined;
  }
  async function settled(): Promise<void> {
    const until = now() + settleWithinMs;
    for (;;) {
      const why = await settleOnce();
      if (why === undefined && waiting.size === 0) return;
      if (now() > until) throw new Error(`not everywhere after ${settleWithinMs / 1000} s: ${why}`);
      await pause(200);
    }
  }

  const change = async (host: string, allowed: Allowed, say: () => Promise<void>) => {
    const holds = judge.change(host, allowed, now());
    await say();
    arrive(holds);
  };

  // --- the beginning ---
  const entryOf = (host: string, vip: string) =>
    remoteEntry({ host, vip, namespace: "foo", gateway: gateways["cluster2"]!, label: "cluster2" });
  judge.change(remote, everybody(both), 0)(0);
  judge.change(`tcp ${remote}`, everybody(both), 0)(0);
  judge.change(local, everybody(["cluster1 v1"]), 0)(0);
  judge.change(back, everybody(["cluster1 v1"]), 0)(0);
  for (const { host, by } of colours) judge.change(host, everybody([by]), 0)(0);
  const policy = (loadBalancer: string) => ({ loadBalancer: { simple: loadBalancer } });
  await apply("cluster1", entryOf(remote, "240.0.0.20"));
  await apply(
    "cluster1",
    remotePolicy({ host: remote, namespace: "foo", label: "cluster2", policy: policy("RANDOM") }),
  );
  await apply("cluster1", routing({ host: remote, namespace: "foo", rules: [{ route: [to(remote)] }] }));
  // Inside a cluster, who calls is told only where a rule asks for mutual TLS.
  const inside = { host: local, namespace: "foo", label: "cluster1", policy: policy("RANDOM"), subsets: [] };
  await apply("cluster1", remotePolicy(inside));
  await apply("cluster1", routing({ host: local, namespace: "foo", rules: [{ route: [to(local)] }] }));
  for (const { host, vip } of colours) {
    await apply("cluster1", entryOf(host, vip));
    await apply("cluster1", routing({ host, namespace: "foo", rules: [{ route: [to(host)] }] }));
  }
  const backEntry = { host: back, vip: "240.0.0.30", gateway: gateways["cluster1"]!, label: "cluster1" };
  await apply("cluster2", remoteEntry({ ...backEntry, namespace: "bar" }));
  await apply("cluster2", routing({ host: back, namespace: "bar", rules: [{ route: [to(back)] }] }));
  await settled();
  const atRest = sample(folder, now());
  print(`everything is up and told after ${at()}; ${atRest.length} processes are watched`);

  // --- the load ---
  const onResult = (result: Result) => {
    requests++;
    const own = result.kind === "tcp" ? { ...result, host: `tcp ${result.host}` } : result;
    const verdict = judge.verdictOn(own);
    const line = () =>
      `${((result.start - began) / 1000).toFixed(2)} to ${((result.end - began) / 1000).toFixed(2)} s, ` +
      `${result.caller.split("/").at(-1)} to ${own.host}${result.marked ? " (marked)" : ""}: `;
    switch (verdict.kind) {
      case "right":
        right++;
        return;
      case "rightly-none":
        rightlyNone++;
        return;
      case "exempt":
        exempt[verdict.why] = (exempt[verdict.why] ?? 0) + 1;
        return;
      case "wrong":
        wrong.push(line() + verdict.what);
        return;
      case "failed":
        // Judged again at the end: that something was away may be known only later than that a request failed.
        suspects.push({ own, line: line() });
    }
  };
  const suspects: { readonly own: Result; readonly line: string }[] = [];
  const judgeAgain = () => {
    for (const { own, line } of suspects.splice(0)) {
      const verdict = judge.verdictOn(own);
      if (verdict.kind === "exempt") exempt[verdict.why] = (exempt[verdict.why] ?? 0) + 1;
      else failed.push(`${line}${verdict.kind === "failed" ? verdict.what : verdict.kind}`);
    }
  };
  /** By backend: how the time ends in which the lab's own probes find no pod of it fit to serve. */
  const unfit = new Map<string, (endedAt: number) => void>();
  let lookedAt = now();
  async function lookForUnfit(): Promise<void> {
    const since = lookedAt;
    lookedAt = now();
    const { seen } = await podsNow();
    for (const backend of ["cluster1 v1", "cluster2 v1", "cluster2 v2"]) {
      const [of, version] = backend.split(" ");
      const fit = podsOf(seen, of!).some(({ workload, ready }) => workload === `echo-${version}` && ready);
      const over = unfit.get(backend);
      if (fit && over) {
        unfit.delete(backend);
        // Callers hear of it a moment later than the lab.
        over(now() + 1_000);
      } else if (!fit && !over) {
        const why = "no pod of it was ready, as the lab's probes see it";
        const away = (among: readonly string[]) => among.includes(backend);
        // Before this look, and after the last one, it may have been so already.
        unfit.set(backend, judge.outage({ why, from: since, hits: (_, among) => away(among) }));
      }
    }
  }
  const http = (host: string) => ({ kind: "http" as const, host, port: 8000 });
  const hosts = [http(remote), http(local), ...colours.map(({ host }) => http(host))];
  const outward = [...hosts, { kind: "tcp" as const, host: remote, port: 9000 }];
  const onBroken = (why: string) => problems.push(why);
  const common = { lab: lab.name, perSecond: 10, onResult, onBroken };
  const callers = [
    startCaller({ ...common, cluster: "cluster1", namespace: "foo", workload: "sleep", targets: outward }),
    startCaller({ ...common, cluster: "cluster1", namespace: "foo", workload: "caller", targets: outward }),
    startCaller({ ...common, cluster: "cluster2", namespace: "bar", workload: "back", targets: [http(back)] }),
  ];

  // --- what happens ---
  const killedAt = new Map<string, number>();
  const readyAgain = new Set<Promise<void>>();
  const mayKill = (group: string) => now() - (killedAt.get(group) ?? Number.NEGATIVE_INFINITY) > restMs;

  /** Kills a part of a pod; resolves, in the background, when the pod serves again. */
  async function kill(
    pod: Pod,
    part: "proxy" | "application" | "envoy",
    over: (endedAt: number) => void,
  ): Promise<void> {
    killedAt.set(`${pod.cluster} ${pod.workload}`, now());
    const place = { cluster: pod.cluster, workload: pod.name, namespace: pod.namespace };
    const { admin, folder: podFolder } = await adminOf(place);
    if (part === "envoy") {
      const found = processes().find(({ command }) => command.includes(`envoy\0-c\0${podFolder}/`));
      if (found) process.kill(found.pid, "SIGKILL");
    } else {
      const container = part === "proxy" ? "istio-proxy" : pod.workload;
      await askLab(lab.name, { op: "crash", ...place, container, signal: "SIGKILL" });
    }
    const again = (async () => {
      await pause(300);
      const until = now() + 60_000;
      for (;;) {
        const proxyReady = (await ask(admin, "GET", "/ready")).status === 200;
        const pods = podsOf(await askLab(lab.name, { op: "status" }), pod.cluster);
        const found = pods.find(({ name }) => name === pod.name);
        // A pod that was taken away meanwhile will not come back.
        if (!found || (proxyReady && found.ready)) break;
        if (now() > until) {
          problems.push(`${pod.name} did not come back within 60 s after its ${part} was killed`);
          break;
        }
        await pause(100);
      }
      over(now() + 300);
    })();
    readyAgain.add(again);
    void again.finally(() => readyAgain.delete(again));
  }
  async function adminOf(place: { cluster: string; workload: string; namespace: string }) {
    const { admin } = await askLab(lab.name, { op: "target", lab: lab.name, ...place });
    return { admin: admin!, folder: admin!.slice(0, admin!.lastIndexOf("/")) };
  }
  const partsOf = (pod: Pod) => (envoyIn(pod.cluster) ? (["proxy", "envoy"] as const) : (["proxy"] as const));
  const podsNow = async () => {
    const seen = await askLab(lab.name, { op: "status" });
    return { seen, pods: ["cluster1", "cluster2"].flatMap((name) => podsOf(seen, name)) };
  };
  let scaledAt = 0;
  let killedPlaneAt = 0;

  /** What may happen, how often, and how; an action that cannot be now says false. */
  const actions: ReadonlyArray<{ readonly weight: number; readonly run: () => Promise<boolean> }> = [
    {
      weight: 30, // Another rule for the remote echo.
      run: async () => {
        if (!judge.settled(remote)) return false;
        const made = remoteRules(chance);
        note(`rule: ${made.title}`);
        const object = routing({ host: remote, namespace: "foo", rules: made.rules });
        await change(remote, made.allowed, () => apply("cluster1", object));
        return true;
      },
    },
    {
      weight: 18, // An entry goes, comes, or moves.
      run: async () => {
        const one = chance.pick(colours);
        if (!judge.settled(one.host)) return false;
        const name = one.host.split(".").slice(0, 2).join("-");
        const there = applied.has(`cluster1 ServiceEntry ${name}`);
        if (there && chance.next() < 0.5) {
          note(`entry deleted: ${one.host}`);
          await change(one.host, nobody, () => remove("cluster1", "ServiceEntry", name));
        } else {
          note(`entry ${there ? "moved" : "made"}: ${one.host}`);
          const entry = entryOf(one.host, chance.pick([one.vip, one.other]));
          await change(one.host, everybody([one.by]), () => apply("cluster1", entry));
        }
        return true;
      },
    },
    {
      weight: 12, // Another way of going about it, with the same answers.
      run: async () => {
        const loadBalancer = { simple: chance.pick(["RANDOM", "ROUND_ROBIN", "LEAST_REQUEST"]) };
        const http = chance.pick([{}, { maxRequestsPerConnection: 10 }, { idleTimeout: "2s" }]);
        const made = { loadBalancer, ...(Object.keys(http).length > 0 ? { connectionPool: { http } } : {}) };
        note(`policy: ${JSON.stringify(made)}`);
        await apply("cluster1", remotePolicy({ host: remote, namespace: "foo", label: "cluster2", policy: made }));
        return true;
      },
    },
    {
      weight: 10, // More pods, or fewer.
      run: async () => {
        const { seen } = await podsNow();
        if (now() - killedPlaneAt < 8_000 || seen.clusters.some(({ controlPlane }) => !controlPlane.ready))
          return false;
        const workload = chance.pick(["echo-v1", "echo-v2"]);
        if (!mayKill(`cluster2 ${workload}`)) return false;
        const replicas = chance.between(2, 3);
        note(`scaled: ${workload} to ${replicas}`);
        scaledAt = now();
        killedAt.set(`cluster2 ${workload}`, now());
        await askLab(lab.name, {
          op: "scale",
          lab: lab.name,
          cluster: "cluster2",
          workload,
          namespace: "bar",
          replicas,
        });
        return true;
      },
    },
    {
      weight: 14, // One of several pods of a service dies, or its proxy.
      run: async () => {
        const { pods } = await podsNow();
        const groups = ["cluster1 echo-v1", "cluster2 echo-v1", "cluster2 echo-v2"].filter(mayKill).filter((group) => {
          const own = pods.filter(({ cluster, workload }) => `${cluster} ${workload}` === group);
          return own.length >= 2 && own.every(({ ready }) => ready);
        });
        if (groups.length === 0) return false;
        const group = chance.pick(groups);
        const pod = chance.pick(pods.filter(({ cluster, workload }) => `${cluster} ${workload}` === group));
        const part = chance.pick([...partsOf(pod), "application" as const]);
        note(`killed a server's ${part}: ${pod.name}`);
        const backend = `${pod.cluster} ${pod.workload.split("-")[1]}`;
        const over = judge.outage({
          why: "a broken connection to a killed pod",
          from: now(),
          hits: ({ kind, error }, among) =>
            among.includes(backend) && (kind === "tcp" || (error ?? "").startsWith("answer cut off")),
        });
        await kill(pod, part, over);
        return true;
      },
    },
    {
      weight: 5, // A caller's proxy dies.
      run: async () => {
        const { pods } = await podsNow();
        const own = pods.filter(
          ({ cluster, workload, ready }) =>
            ready && mayKill(`${cluster} ${workload}`) && callers.some((one) => one.workload === workload),
        );
        if (own.length === 0) return false;
        const pod = chance.pick(own);
        const part = chance.pick(partsOf(pod));
        note(`killed a caller's ${part}: ${pod.name}`);
        const { identity } = callers.find(({ workload }) => workload === pod.workload)!;
        const why = "the caller's own proxy is away";
        const over = judge.outage({ why, from: now(), hits: ({ caller }) => caller === identity });
        await kill(pod, part, over);
        return true;
      },
    },
    {
      weight: 4, // A gateway dies.
      run: async () => {
        const { pods } = await podsNow();
        const own = pods.filter(
          ({ gateway, ready, cluster, workload }) => gateway && ready && mayKill(`${cluster} ${workload}`),
        );
        if (own.length === 0) return false;
        const pod = chance.pick(own);
        const part = chance.pick(partsOf(pod));
        note(`killed a gateway's ${part}: ${pod.cluster}`);
        const over = judge.outage({
          why: "the only gateway is away",
          from: now(),
          hits: ({ cluster }, among) => cluster !== pod.cluster && among.some((by) => by.startsWith(`${pod.cluster} `)),
        });
        await kill(pod, part, over);
        return true;
      },
    },
    {
      weight: 7, // A control plane dies.
      run: async () => {
        const { seen } = await podsNow();
        const name = chance.pick(["cluster1", "cluster2"]);
        if (now() - scaledAt < 10_000 || !mayKill(`plane ${name}`)) return false;
        if (!clusterIn(seen, name).controlPlane.ready) return false;
        note(`killed a control plane: ${name}`);
        killedAt.set(`plane ${name}`, now());
        killedPlaneAt = now();
        const place = { cluster: name, workload: "controlplane", container: "controlplane" };
        await askLab(lab.name, { op: "crash", ...place, signal: "SIGKILL" });
        return true;
      },
    },
  ];

  const samples: Sample[] = [];
  const end = now() + seconds * 1000;
  let watching = true;
  const watcher = (async () => {
    let lastSample = 0;
    let stuckSince = now();
    while (watching) {
      await lookForUnfit();
      const why = await settleOnce();
      if (why === undefined || waiting.size === 0) stuckSince = now();
      if (now() - stuckSince > settleWithinMs) {
        problems.push(`what was said did not arrive everywhere within ${settleWithinMs / 1000} s: ${why}`);
        stuckSince = now();
      }
      if (now() - lastSample > 2_500) {
        lastSample = now();
        samples.push(...sample(folder, lastSample));
      }
      await pause(250);
    }
  })();
  let broken = breaking === "none";
  try {
    while (now() < end) {
      await pause(chance.between(600, 2_000));
      if (!broken && now() - began > (seconds * 1000) / 3) {
        broken = true;
        print(`broken on purpose: ${breaking}`);
        await breakIt();
      }
      await draw(actions, chance).run();
    }
    async function breakIt(): Promise<void> {
      if (breaking === "outage") {
        await askLab(lab.name, {
          op: "scale",
          lab: lab.name,
          cluster: "cluster2",
          workload: "echo-v2",
          namespace: "bar",
          replicas: 0,
        });
        return;
      }
      const { host } = colours[0];
      await apply("cluster1", routing({ host, namespace: "foo", rules: [{ route: [to(colours[1].host)] }] }));
    }
    // --- the end ---
    await Promise.all(readyAgain);
    for (const { number, skipped, repeated } of await Promise.all(callers.map((caller) => caller.stop()))) {
      // What is left out is no failure: the machine is slow, or a host is away and its requests wait to fail.
      print(`a caller sent ${number - skipped}, left out ${skipped}, and sent ${repeated} again on another connection`);
    }
  } finally {
    watching = false;
    await watcher;
    judgeAgain();
    if (wrong.length + failed.length + problems.length > 0) for (const line of history) print(line);
  }
  await settled();
  for (const { cluster, kind, name } of [...applied.values()]) await remove(cluster, kind, name);
  await settled();
  problems.push(...(await leftovers()));
  problems.push(...growing(samples).map((what) => `memory grew: ${what}`));
  // Connections that are kept for the next request may be kept a while longer.
  await pause(3_000);
  problems.push(...holding(atRest, sample(folder, now())));
  return { requests, right, rightlyNone, exempt, wrong, failed, done, problems };

  /** What proxies still have of what is deleted. */
  async function leftovers(): Promise<readonly string[]> {
    const left: string[] = [];
    const { pods } = await podsNow();
    for (const pod of pods) {
      const { admin } = await adminOf({ cluster: pod.cluster, workload: pod.name, namespace: pod.namespace });
      const own = pod.cluster === "cluster1" ? [remote, ...colours.map(({ host }) => host)] : [back];
      const dump = JSON.parse((await ask(admin, "GET", "/config_dump")).text) as readonly {
        type: string;
        name: string;
      }[];
      // A server's own cluster exposes its services under these names: only what leads out is deleted.
      const found = dump.filter(
        ({ name }) => /^outbound\|/.test(name) && own.some((host) => name.endsWith(`|${host}`)),
      );
      left.push(...found.map(({ name }) => `${pod.name} still has ${name}`));
      const warming = JSON.parse((await ask(admin, "GET", "/warming")).text) as { warming: number };
      if (warming.warming > 0) left.push(`${pod.name} waits for ${warming.warming} resources`);
    }
    return left;
  }
}

/** A rule for the remote echo, and who may answer under it. */
function remoteRules(chance: Chance): {
  readonly title: string;
  readonly rules: readonly Record<string, unknown>[];
  readonly allowed: Allowed;
} {
  const weight = chance.between(10, 90);
  const marked = { match: [{ headers: { "x-soak-version": { exact: "v2" } } }], route: [to(remote, { subset: "v2" })] };
  return chance.pick([
    { title: "all versions", rules: [{ route: [to(remote)] }], allowed: everybody(both) },
    { title: "v1 alone", rules: [{ route: [to(remote, { subset: "v1" })] }], allowed: everybody(["cluster2 v1"]) },
    { title: "v2 alone", rules: [{ route: [to(remote, { subset: "v2" })] }], allowed: everybody(["cluster2 v2"]) },
    {
      title: `weights ${weight}`,
      rules: [{ route: [to(remote, { subset: "v1", weight }), to(remote, { subset: "v2", weight: 100 - weight })] }],
      allowed: everybody(both),
    },
    {
      title: "marked to v2, others to v1",
      rules: [marked, { route: [to(remote, { subset: "v1" })] }],
      allowed: { plain: ["cluster2 v1"], marked: ["cluster2 v2"] },
    },
    {
      title: "marked to v2, others half to the local one",
      rules: [marked, { route: [to(remote, { subset: "v1", weight: 50 }), to(local, { weight: 50 })] }],
      allowed: { plain: ["cluster2 v1", "cluster1 v1"], marked: ["cluster2 v2"] },
    },
  ]);
}

/** One of them, each as often as its weight says. */
function draw<T extends { readonly weight: number }>(items: readonly T[], chance: Chance): T {
  return chance.pick(items.flatMap((item) => Array.from({ length: item.weight }, () => item)));
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
