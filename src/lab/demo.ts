import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { explain, Failure, packageFile, programFile, sleep, systemClock } from "../base/index.ts";
import { type PodRun, runInPod } from "./exec.ts";
import { gatewayProofs } from "./gateway-proof.ts";
import { labDown, labUp } from "./lab.ts";
import { ingressName, systemNamespace } from "./profile.ts";
import { progressText } from "./progress-text.ts";
import { askLab } from "./protocol.ts";
import { keeperLives, stateFolder } from "./state-folder.ts";
import { accessLines, findCrossing, hopLines, promises } from "./story.ts";
import type { DataPlane, LabMode, LabStatus, LabTarget } from "./types.ts";

const host = "httpbin.bar.global";
const port = 8000;
const vip = "240.0.0.2";
const expected = {
  sni: `outbound_.${port}_._.${host}`,
  caller: "spiffe://cluster.local/ns/foo/sa/sleep",
  server: "spiffe://cluster.local/ns/bar/sa/httpbin",
  gateway: `spiffe://cluster.local/ns/${systemNamespace}/sa/${ingressName}-service-account`,
} as const;
/** How often a lab that stays up is looked at, whether it still is. */
const lookMs = 2_000;
/** How long the first call may need: the gateway hears of the service's pods a moment after they are ready. */
const firstCallMs = 20_000;

/**
 * The example as a scene: two clusters, the call through both, its hops from the proxies' own logs. Resolves with the
 * exit code: with `once` after taking everything down, else when `signal` aborts (Ctrl-C).
 */
export async function demo(options: {
  readonly once: boolean;
  readonly name?: string;
  readonly mode?: LabMode;
  readonly dataPlane?: DataPlane;
  readonly write: (line: string) => void;
  /** A line about what is waited for, until another line comes; empty when nothing is any more. */
  readonly waiting?: (line: string) => void;
  /** How a person at this place calls this program: `npx isthmus`. */
  readonly command?: string;
  readonly signal?: AbortSignal;
}): Promise<number> {
  const { once, name = "demo", mode, write, signal } = options;
  const started = systemClock.monotonic();
  let ours = true;
  try {
    const status = await labUp({
      name,
      clusters: ["cluster1", "cluster2"].map((cluster) => ({
        name: cluster,
        folders: [packageFile("samples", "demo", cluster)],
      })),
      life: "tied",
      onProgress: (news) => {
        if (news.kind === "waiting") options.waiting?.(news.text);
        else write(progressText(news));
      },
      ...(mode ? { mode } : {}),
      ...(options.dataPlane ? { dataPlane: options.dataPlane } : {}),
      ...(signal ? { signal } : {}),
    });
    const seconds = ((systemClock.monotonic() - started) / 1000).toFixed(1);
    write(`two clusters, ${status.clusters.reduce((sum, { pods }) => sum + pods.length, 0)} pods: up in ${seconds} s`);
    const good = await scene(status, write, signal);
    if (once) return good ? 0 : 1;
    write("");
    for (const line of tryLines(status, options.command ?? "isthmus")) write(line);
    if (!signal) return good ? 0 : 1;
    // Somebody else may take it down, by `lab down`.
    while (!signal.aborted && (await keeperLives(stateFolder(name)))) {
      await sleep(systemClock, lookMs, signal).catch(() => {});
    }
    write(signal.aborted ? "taking everything down" : `lab "${name}" was taken down`);
    return good ? 0 : 1;
  } catch (caught) {
    if (signal?.aborted) {
      write("stopped before it was up; nothing is left");
      return 130;
    }
    const failure = Failure.from(caught);
    // A name in use is another lab's: it must not be taken down for that.
    if (failure.code === "lab/name-in-use") {
      ours = false;
      throw failure;
    }
    write(explain(failure));
    return 1;
  } finally {
    if (ours) await labDown({ lab: name });
  }
}

async function scene(
  status: LabStatus,
  write: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const client: LabTarget = {
    lab: status.name,
    cluster: "cluster1",
    workload: "sleep",
    namespace: "foo",
    container: "sleep",
  };
  const url = `${host}:${port}/headers`;
  const curl = await hasCurl(client);
  const call = (...flags: string[]) =>
    inPod(
      client,
      curl
        ? ["curl", "-sS", "--max-time", "10", ...flags, url]
        : [process.execPath, programFile("lab", "get-main.js"), ...flags, `http://${url}`],
    );
  const until = systemClock.monotonic() + firstCallMs;
  let head = await call("-I");
  while (!/^HTTP\/1\.1 200/.test(head.stdout) && systemClock.monotonic() < until) {
    await sleep(systemClock, 300, signal);
    head = await call("-I");
  }
  write("");
  if (!curl) write("there is no curl on this machine: a small client of the lab's own calls in its place");
  write(`sleep in cluster1 $ curl -I ${url}`);
  for (const line of `${head.stdout}${head.stderr}`.trimEnd().split(/\r?\n/)) write(`  ${line}`);
  if (!/^HTTP\/1\.1 200/.test(head.stdout)) return false;

  const echo = await call();
  write("");
  write(`sleep in cluster1 $ curl ${url}`);
  for (const line of `${echo.stdout}${echo.stderr}`.trimEnd().split("\n")) write(`  ${line}`);
  const headers = echoedHeaders(echo.stdout);
  const xfcc = headers.get("x-forwarded-client-cert") ?? "";
  const requestId = headers.get("x-request-id") ?? "";
  const identityCrossed = xfcc.includes(`URI=${expected.caller}`);

  const crossing = await crossingOf(status.name, requestId);
  write("");
  if ("missing" in crossing) {
    write(`the hops cannot be told: ${crossing.missing}`);
    return false;
  }
  write("its hops, as the proxies logged them");
  for (const line of hopLines(crossing, { host, vip, app: "httpbin" })) write(`  ${line}`);
  write("");
  const gateway = await askLab(status.name, { op: "target", ...gatewayTarget(status.name) });
  const checks = [
    ...promises(crossing, expected),
    ...(await gatewayProofs(gateway.admin ?? "", expected.gateway)),
    { says: "the application was told who called (x-forwarded-client-cert)", holds: identityCrossed },
  ];
  for (const { says, holds } of checks) write(`  ${holds ? "yes" : "NO "}  ${says}`);
  return checks.every(({ holds }) => holds);
}

/** The headers of httpbin's echo, by lower-case name; none when the answer is no echo. */
function echoedHeaders(text: string): ReadonlyMap<string, string> {
  try {
    const { headers } = JSON.parse(text) as { headers?: Record<string, unknown> };
    return new Map(Object.entries(headers ?? {}).map(([key, value]) => [key.toLowerCase(), String(value)]));
  } catch {
    return new Map();
  }
}

/** How long proxies may take to write their lines. */
const logMs = 5_000;

async function crossingOf(lab: string, requestId: string): Promise<ReturnType<typeof findCrossing>> {
  const log = async (cluster: string, workload: string) => {
    const place = await askLab(lab, { op: "target", lab, cluster, workload, container: "istio-proxy" });
    return accessLines(readFileSync(place.logFile, "utf8"));
  };
  const until = systemClock.monotonic() + logMs;
  for (;;) {
    const crossing = findCrossing({
      requestId,
      client: await log("cluster1", "sleep"),
      gateway: await log("cluster2", "ingressgateway"),
      server: await log("cluster2", "httpbin"),
    });
    const whole = !("missing" in crossing) && crossing.gateway !== undefined;
    if (whole || systemClock.monotonic() > until) return crossing;
    await sleep(systemClock, 200);
  }
}

function gatewayTarget(lab: string): LabTarget {
  return { lab, cluster: "cluster2", workload: ingressName, namespace: systemNamespace };
}

async function hasCurl(client: LabTarget): Promise<boolean> {
  return (await inPod(client, ["sh", "-c", "command -v curl"])).code === 0;
}

async function inPod(target: LabTarget, command: readonly string[]): Promise<PodRun> {
  const place = await askLab(target.lab, { op: "target", ...target });
  return runInPod({ folder: stateFolder(target.lab), place, command, stdio: "pipe", timeoutMs: 15_000 });
}

function tryLines(status: LabStatus, command: string): readonly string[] {
  const lab = (verb: string) => `  ${command} lab ${verb}${status.name === "lab" ? "" : ` --name ${status.name}`}`;
  return [
    "it stays up until Ctrl-C; to try in another terminal, in this folder:",
    `${lab("exec")} cluster1 sleep -- curl -I ${host}:${port}/headers`,
    `${lab("exec")} cluster1 sleep -- curl ${host}:${port}/anything`,
    lab("status"),
    `${lab("logs")} cluster2 httpbin -c istio-proxy --tail 1`,
    `${lab("delete")} cluster1 -n foo serviceentry httpbin-bar    # and the name is gone`,
    `${lab("apply")} cluster1 -n foo -f ${shownFile("cluster1", "httpbin-bar.yaml")}    # and it is back`,
  ];
}

/** One of the example's files, as short as it can be said from here. */
function shownFile(...path: readonly string[]): string {
  const file = packageFile("samples", "demo", ...path);
  const short = relative(process.cwd(), file);
  return short.startsWith("..") ? file : short;
}
