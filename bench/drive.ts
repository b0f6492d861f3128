import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Load, wrk } from "./load.ts";
import { runOn } from "./machine.ts";

/** What is asked for, and how. */
export interface Call {
  readonly speaks: "http1" | "http2";
  readonly port: number;
  readonly path: string;
  readonly host?: string | undefined;
}

/** As many requests as go for some seconds, `atOnce` of them under way all the time. Throws when any of them failed. */
export async function drive(
  call: Call,
  how: { readonly dir: string; readonly atOnce: number; readonly seconds: number },
): Promise<Load> {
  const { host, port, path } = call;
  const url = `http://127.0.0.1:${port}${path}`;
  if (call.speaks === "http1") return wrk({ url, host, connections: how.atOnce, seconds: how.seconds });
  return h2load({ ...how, url, host });
}

/** Over HTTP/2 with prior knowledge, up to eight requests at once on a connection. */
async function h2load(options: {
  readonly dir: string;
  readonly url: string;
  readonly host: string | undefined;
  readonly atOnce: number;
  readonly seconds: number;
}): Promise<Load> {
  const { dir, url, host, atOnce, seconds } = options;
  const log = join(dir, "h2load.log");
  rmSync(log, { force: true });
  const streams = Math.min(8, atOnce);
  const header = host === undefined ? [] : ["-H", `:authority: ${host}`];
  const load = [`-c${atOnce / streams}`, `-m${streams}`, `-D${seconds}`, "-w24", "-W28"];
  const text = await runOn("load", ["h2load", "-t1", ...load, `--log-file=${log}`, ...header, url]);
  // Those that were under way at the end have no answer, and are no failures.
  const [, answered, failed, errored] = (/(\d+) succeeded, (\d+) failed, (\d+) errored/.exec(text) ?? []).map(Number);
  const times = readFileSync(log, "latin1")
    .split("\n")
    .flatMap((line) => {
      const [, status, took] = line.split("\t");
      return status === "200" ? [Number(took)] : [];
    });
  if (!answered || failed! > atOnce || errored! > atOnce || times.length < answered)
    throw new Error(`${url}: ${answered} answered, ${failed} failed, ${errored} errored`);
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN;
  const perSecond = Number(/finished in [^,]+, ([\d.]+) req\/s/.exec(text)?.[1]);
  return { requests: answered, perSecond, p50Micros: at(0.5), p99Micros: at(0.99) };
}
