import { readFileSync } from "node:fs";
import { explain, Failure, sleep, systemClock } from "../base/index.ts";
import { packageFile } from "./enclosure.ts";
import { type PodRun, runInPod } from "./exec.ts";
import { labDown, labUp } from "./lab.ts";
import { askLab } from "./protocol.ts";
import { stateFolder } from "./state-folder.ts";
import { accessLines, findCrossing, hopLines, promises } from "./story.ts";
import type { LabMode, LabProgress, LabStatus, LabTarget } from "./types.ts";

const host = "httpbin.bar.global";
const port = 8000;
const vip = "240.0.0.2";
const expected = {
  sni: `outbound_.${port}_._.${host}`,
  caller: "spiffe://cluster.local/ns/foo/sa/sleep",
  server: "spiffe://cluster.local/ns/bar/sa/httpbin",
} as const;
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
  readonly write: (line: string) => void;
  /** A line that replaces the one before it while something is waited for; absent where output is no terminal. */
  readonly progress?: (line: string) => void;
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
        folders: [packageFile("..", "samples", "demo", cluster)],
      })),
      life: "tied",
      onProgress: (news) => show(news, options),
      ...(mode ? { mode } : {}),
      ...(signal ? { signal } : {}),
    });
    const seconds = ((systemClock.monotonic() - started) / 1000).toFixed(1);
    options.progress?.("");
    write(`two clusters, ${status.clusters.reduce((sum, { pods }) => sum + pods.length, 0)} pods: up in ${seconds} s`);
    const good = await scene(status, write, signal);
    if (once) return good ? 0 : 1;
    write("");
    for (const line of tryLines(status)) write(line);
    if (!signal) return good ? 0 : 1;
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
    write("taking everything down");
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

function show(
  news: LabProgress,
  { write, progress }: { write: (line: string) => void; progress?: (line: string) => void },
): void {
  const where = "cluster" in news && news.cluster ? `${news.cluster}: ` : "";
  if (news.kind === "mode") write(`mode: ${news.mode} (${news.reason})`);
  else if (news.kind === "installing") {
    write(`installing ${news.packages.join(", ")} with apt-get, which this mode needs`);
  } else if (news.kind === "warning") write(`warning: ${where}${news.text}`);
  else (progress ?? write)(`${where}${news.text}`);
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
  const call = (...command: string[]) => inPod(client, command);
  const url = `${host}:${port}/headers`;
  const until = systemClock.monotonic() + firstCallMs;
  let head = await call("curl", "-sSI", "--max-time", "10", url);
  while (!/^HTTP\/1\.1 200/.test(head.stdout) && systemClock.monotonic() < until) {
    await sleep(systemClock, 300, signal);
    head = await call("curl", "-sSI", "--max-time", "10", url);
  }
  write("");
  write(`sleep in cluster1 $ curl -I ${url}`);
  for (const line of `${head.stdout}${head.stderr}`.trimEnd().split(/\r?\n/)) write(`  ${line}`);
  if (!/^HTTP\/1\.1 200/.test(head.stdout)) return false;

  const echo = await call("curl", "-sS", "--max-time", "10", url);
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
  const checks = [
    ...promises(crossing, expected),
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

async function inPod(target: LabTarget, command: readonly string[]): Promise<PodRun> {
  const place = await askLab(target.lab, { op: "target", ...target });
  return runInPod({ folder: stateFolder(target.lab), place, command, stdio: "pipe", timeoutMs: 15_000 });
}

function tryLines(status: LabStatus): readonly string[] {
  const named = status.name === "lab" ? "" : ` --name ${status.name}`;
  return [
    "it stays up until Ctrl-C; to try in another terminal:",
    `  isthmus lab exec${named} cluster1 sleep -- curl -I ${host}:${port}/headers`,
    `  isthmus lab exec${named} cluster1 sleep -- curl ${host}:${port}/anything`,
    `  isthmus lab status${named}`,
    `  isthmus lab logs${named} cluster2 httpbin -c istio-proxy --follow`,
    `  isthmus lab apply${named} cluster1 -n foo -f FILE`,
  ];
}
