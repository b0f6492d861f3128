import { expect } from "vitest";
import { eventually, type Mesh, pause, readUntil, tunnel } from "./mesh.ts";

/** What a proxy may keep beyond 10 % of what it had: caches that are bounded by themselves, in bytes. */
const slackBytes = 4 * 1024 * 1024;
/** Pooled connections to the servers may stay; they are bounded by the probe's and the attack's own requests. */
const spareDescriptors = 12;

/** A client that behaves, one request after the other through both sidecars while the attack runs. */
function startProbe(mesh: Mesh): {
  /** Resolves when it has been served so many times more, or has failed. */
  more(count: number): Promise<unknown>;
  stop(): Promise<{ served: number; failures: string[] }>;
} {
  let stopped = false;
  let served = 0;
  const failures: string[] = [];
  const run = async () => {
    let socket = await tunnel(mesh, "echo.bar.svc.cluster.local", 8000);
    while (!stopped) {
      try {
        const answer = readUntil(socket, "probe-end", 20_000);
        socket.write("GET /probe HTTP/1.1\r\nHost: echo.bar.svc.cluster.local\r\nx-probe: probe-end\r\n\r\n");
        const text = await answer;
        if (/^HTTP\/1\.1 200 /.test(text) && text.includes("probe-end")) served++;
        else {
          failures.push(text.slice(0, 300) || "the connection ended without an answer");
          socket.destroy();
          socket = await tunnel(mesh, "echo.bar.svc.cluster.local", 8000);
        }
      } catch (caught) {
        failures.push(String(caught));
        if (failures.length > 20) return;
      }
      await pause(20);
    }
    socket.destroy();
  };
  const running = run().catch((caught: unknown) => void failures.push(String(caught)));
  const more = (count: number) => {
    const goal = served + count;
    return eventually(() => served >= goal || failures.length > 0, Boolean, {
      timeoutMs: 30_000,
      what: "the client that behaves is not served",
    });
  };
  return {
    more,
    stop: async () => {
      stopped = true;
      await running;
      return { served, failures };
    },
  };
}

/**
 * Runs an attack beside a client that behaves, and holds what always must hold: the process lives and says no stack, the
 * client was served throughout, memory and descriptors come back.
 */
export async function survive<T>(
  mesh: Mesh,
  attack: () => Promise<T>,
  options: {
    /** Runs the attack once before anything is measured, so that code and caches are warm. */
    readonly warm?: () => Promise<unknown>;
    /** How long descriptors may take to come back. */
    readonly settleMs?: number;
    /** The most that resident memory may grow while it runs, in bytes. */
    readonly rssGrowth?: number;
  } = {},
): Promise<T> {
  const { victim } = mesh;
  await options.warm?.();
  await rest(mesh);
  const before = {
    memory: await victim.memory(),
    descriptors: victim.descriptors(),
    log: victim.log.length,
    errors: errorsOf(victim.log).length,
  };
  const probe = startProbe(mesh);
  await probe.more(3);
  let highest = before.memory.rss;
  const watch = setInterval(() => {
    void victim.memory().then(
      ({ rss }) => {
        highest = Math.max(highest, rss);
      },
      () => {},
    );
  }, 500);
  let result: T;
  try {
    result = await attack();
    await probe.more(3);
  } finally {
    clearInterval(watch);
  }
  const { served, failures } = await probe.stop();
  expect(failures, "the client that behaves").toEqual([]);
  expect(served).toBeGreaterThan(5);
  expect(victim.process.exitCode, `the process:\n${victim.log.slice(-10).join("\n")}`).toBeNull();
  expect(errorsOf(victim.log).slice(before.errors), "errors that the process logged").toEqual([]);
  await rest(mesh);
  if (before.descriptors !== undefined) {
    const { descriptors } = before;
    await eventually(
      () => victim.descriptors()!,
      (now) => now <= descriptors + spareDescriptors,
      { timeoutMs: options.settleMs ?? 10_000, what: `descriptors did not come back to ${descriptors}` },
    );
  }
  await eventually(
    async () => (await victim.memory()).used,
    (used) => used <= before.memory.used * 1.1 + slackBytes,
    { timeoutMs: 8000, what: `memory did not come back to ${before.memory.used}` },
  );
  if (options.rssGrowth !== undefined) expect(highest - before.memory.rss).toBeLessThan(options.rssGrowth);
  return result;
}

/**
 * Lets go of what is kept on purpose: a proxy keeps as many connections to its own application as were once needed at a
 * time, until they were idle for an hour or the application closes them.
 */
async function rest(mesh: Mesh): Promise<void> {
  await pause(200);
  for (const app of [mesh.echo, mesh.admin]) for (const socket of app.open) socket.destroy();
}

/** Lines of the process's own log that tell of a mistake of ours. */
export const errorsOf = (lines: readonly string[]) =>
  lines.filter((line) => line.includes('"level":"error"') || /^\s+at /.test(line) || line.includes('"stack"'));

/** No stack, no file of ours, no words of the runtime's. */
export function expectNoInsides(answer: string): void {
  expect(answer).not.toMatch(/\n\s+at |\.ts:\d|\.js:\d|node:internal|TypeError|ERR_[A-Z]/);
}
