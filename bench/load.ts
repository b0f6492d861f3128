import { runOn } from "./machine.ts";
import { interleave, median, megabytes, short, table } from "./report.ts";

/** What one run of `wrk` said. */
export interface Load {
  readonly requests: number;
  readonly perSecond: number;
  readonly p50Micros: number;
  readonly p99Micros: number;
}

const units: Record<string, number> = { us: 1, ms: 1e3, s: 1e6, m: 6e7 };

function micros(text: string | undefined): number {
  const [, number, unit] = /^([\d.]+)(us|ms|s|m)$/.exec(text ?? "") ?? [];
  return number === undefined ? Number.NaN : Number(number) * units[unit!]!;
}

/** Small requests over connections that stay open, by one thread. Throws when any of them failed. */
export async function wrk(options: {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  readonly host?: string | undefined;
}): Promise<Load> {
  const { url, connections, seconds, host } = options;
  const header = host === undefined ? [] : ["-H", `Host: ${host}`];
  const args = ["-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "20s", "--latency", ...header, url];
  const text = await runOn("load", ["wrk", ...args]);
  const wrong = /Non-2xx or 3xx responses: \d+|Socket errors: .*/.exec(text)?.[0];
  if (wrong && !/connect 0, read 0, write 0, timeout 0/.test(wrong)) throw new Error(`${url}: ${wrong}`);
  const requests = Number(/(\d+) requests in/.exec(text)?.[1] ?? 0);
  if (requests === 0) throw new Error(`${url}: no request was answered`);
  return {
    requests,
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]),
    p50Micros: micros(/ 50%\s+(\S+)/.exec(text)?.[1]),
    p99Micros: micros(/ 99%\s+(\S+)/.exec(text)?.[1]),
  };
}

/** Something that passes requests on, and what it is made of. */
export interface HttpSubject {
  readonly what: string;
  readonly url: string;
  readonly host?: string | undefined;
  readonly programs: ReadonlyArray<{ cpuMicros(): number; rssBytes(): number }>;
}

/** Until compilers have seen enough of it, or for some seconds at most. */
async function warm({ url, host }: HttpSubject): Promise<void> {
  let requests = 0;
  for (let second = 0; second < 5 && requests < 10_000; second++) {
    requests += (await wrk({ url, host, connections: manyConnections, seconds: 1 })).requests;
  }
}

export interface HttpResult {
  readonly what: string;
  readonly perSecond: number;
  readonly cpuMicros: number;
}

const secondsBusy = Number(process.env["BENCH_SECONDS"] ?? 2);
const rounds = 3;
const manyConnections = 32;

/**
 * Each subject in turns: first with many connections, as much as goes (rate, CPU time, the latency that comes of it), then
 * with one, when nothing waits for anything else (what a request takes by itself). Latencies are beyond those of `direct`.
 */
export async function compareHttp(
  print: (line: string) => void,
  { direct, subjects }: { readonly direct: HttpSubject; readonly subjects: readonly HttpSubject[] },
): Promise<readonly HttpResult[]> {
  const all = [direct, ...subjects];
  for (const subject of all) await warm(subject);
  const results = await interleave(all, rounds, async ({ url, host, programs }) => {
    const cpu = () => programs.reduce((sum, program) => sum + program.cpuMicros(), 0);
    const before = cpu();
    const busy = await wrk({ url, host, connections: manyConnections, seconds: secondsBusy });
    const spent = cpu() - before;
    const rss = programs.reduce((sum, program) => sum + program.rssBytes(), 0);
    const alone = await wrk({ url, host, connections: 1, seconds: 1 });
    return { busy, cpuMicros: spent / busy.requests, rss, alone };
  });
  const of = (subject: HttpSubject) => {
    const list = results.get(subject)!;
    return {
      perSecond: median(list.map(({ busy }) => busy.perSecond)),
      cpuMicros: median(list.map(({ cpuMicros }) => cpuMicros)),
      p50: median(list.map(({ busy }) => busy.p50Micros)),
      p99: median(list.map(({ busy }) => busy.p99Micros)),
      rss: Math.max(...list.map(({ rss }) => rss)),
      aloneP50: median(list.map(({ alone }) => alone.p50Micros)),
      aloneP99: median(list.map(({ alone }) => alone.p99Micros)),
    };
  };
  const base = of(direct);
  const first = of(subjects[0]!);
  table(print, [
    [
      "",
      "requests/s",
      "CPU-µs/request",
      "to ours",
      `p50 ms at ${manyConnections}`,
      `p99 ms at ${manyConnections}`,
      "added p50 µs at 1",
      "added p99 µs at 1",
      "memory MB",
    ],
    ...subjects.map((subject) => {
      const one = of(subject);
      return [
        subject.what,
        one.perSecond.toFixed(0),
        short(one.cpuMicros),
        subject === subjects[0] ? "1" : short(one.cpuMicros / first.cpuMicros),
        short(one.p50 / 1e3),
        short(one.p99 / 1e3),
        (one.aloneP50 - base.aloneP50).toFixed(0),
        (one.aloneP99 - base.aloneP99).toFixed(0),
        megabytes(one.rss),
      ];
    }),
    [
      direct.what,
      base.perSecond.toFixed(0),
      "",
      "",
      short(base.p50 / 1e3),
      short(base.p99 / 1e3),
      `(${base.aloneP50.toFixed(0)})`,
      `(${base.aloneP99.toFixed(0)})`,
      "",
    ],
  ]);
  return subjects.map((subject) => {
    const { perSecond, cpuMicros } = of(subject);
    return { what: subject.what, perSecond, cpuMicros };
  });
}
