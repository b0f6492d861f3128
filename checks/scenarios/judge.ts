import type { Result } from "../../src/lab/apps/caller/order.ts";
import type { Expectation } from "./format.ts";

/** What an application said of one request: as its answer, or on its standard output. */
export interface AppLine {
  readonly cluster: string;
  readonly namespace: string;
  readonly workload: string;
  readonly version: string;
  readonly pod: string;
  readonly method?: string;
  readonly path?: string;
  readonly authority?: string;
  readonly protocol?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** A line of a proxy's access log. */
export type AccessLine = Readonly<Record<string, unknown>>;

/** Everything that was seen of one step's calls. */
export interface Evidence {
  readonly results: readonly Result[];
  /** Requests that reached an application, all calls and tries. */
  readonly apps: readonly AppLine[];
  /** By place: the lines of its proxy that are about these calls. */
  readonly flags: ReadonlyMap<string, readonly AccessLine[]>;
  /** By gateway: packets that came to it meanwhile. */
  readonly packets: ReadonlyMap<string, number>;
}

/** Which of the expected things did not come, each with what came instead. Empty when all is as it should be. */
export function judge(expect: Expectation, evidence: Evidence): readonly string[] {
  const wrong: string[] = [];
  evidence.results.forEach((result, index) => {
    const which = evidence.results.length > 1 ? `call ${index + 1} of ${evidence.results.length}: ` : "";
    wrong.push(...judgeOne(expect, result, evidence.apps).map((text) => `${which}${text}`));
  });
  wrong.push(...judgeShares(expect, evidence.results), ...judgeReached(expect, evidence.apps));
  for (const gateway of expect.through ?? []) {
    if ((evidence.packets.get(gateway) ?? 0) === 0) wrong.push(`nothing went through ${gateway}`);
  }
  for (const gateway of expect.notThrough ?? []) {
    const packets = evidence.packets.get(gateway) ?? 0;
    if (packets > 0) wrong.push(`${packets} packets went through ${gateway}`);
  }
  for (const { at, is } of flagsOf(expect)) {
    const lines = evidence.flags.get(at) ?? [];
    const seen = lines.map((line) => String(line["response_flags"] ?? "-"));
    const fits = seen.filter((flag) => matches(flag, is));
    // No flag must be so of all; of a flag there may be one call among many that has it.
    const good = is === "-" ? seen.length > 0 && fits.length === seen.length : fits.length > 0;
    if (!good) wrong.push(`response flag of ${at || "the caller"} must be ${is}, seen ${tally(seen)}${why(lines)}`);
  }
  if (expect.logged) {
    const lines = evidence.flags.get("") ?? [];
    const fits = (line: AccessLine) =>
      Object.entries(expect.logged!).every(([field, want]) => matches(textOf(line[field]), want));
    if (!lines.some(fits))
      wrong.push(`the caller's log must tell ${quote(expect.logged)}, it tells ${quote(lines.slice(0, 3))}`);
  }
  return wrong;
}

/** What a log has nothing for is a dash or null. */
function textOf(value: unknown): string | undefined {
  return value === null || value === undefined || value === "-" ? undefined : String(value);
}

/** Where flags are looked for; the caller's own proxy is "". */
export function flagsOf({ flag }: Expectation): readonly { readonly at: string; readonly is: string }[] {
  if (flag === undefined) return [];
  if (typeof flag === "string") return [{ at: "", is: flag }];
  return Array.isArray(flag) ? flag : [flag];
}

function why(lines: readonly AccessLine[]): string {
  const told = lines.flatMap((line) =>
    ["response_code_details", "upstream_transport_failure_reason", "connection_termination_details", "upstream_cluster"]
      .map((field) => line[field])
      .filter((value) => typeof value === "string" && value !== "-"),
  );
  return told.length > 0 ? ` (${[...new Set(told)].join("; ")})` : "";
}

/** Equal, or matching where it is written as `/…/`; null is absent. */
export function matches(seen: string | undefined, want: string | null): boolean {
  if (want === null) return seen === undefined;
  if (seen === undefined) return false;
  const pattern = patternOf(want);
  return pattern ? pattern.test(seen) : seen === want;
}

function patternOf(want: string): RegExp | undefined {
  return want.length > 2 && want.startsWith("/") && want.endsWith("/") ? new RegExp(want.slice(1, -1), "s") : undefined;
}

function judgeOne(expect: Expectation, result: Result, apps: readonly AppLine[]): readonly string[] {
  const wrong: string[] = [];
  const said = tell(result);
  const check = (name: string, seen: string | undefined, want: string | null | undefined) => {
    if (want !== undefined && !matches(seen, want))
      wrong.push(`${name} must be ${want === null ? "absent" : quote(want)}, is ${quote(seen)}; ${said}`);
  };
  if (expect.error !== undefined) {
    const wanted = [expect.error].flat();
    if (result.error === undefined || !(wanted as string[]).includes(result.error))
      wrong.push(`must end with ${wanted.join(" or ")}; ${said}`);
  } else if (result.error !== undefined) return [`must be answered; ${said}`];
  if (expect.status !== undefined && !(result.status !== undefined && [expect.status].flat().includes(result.status)))
    wrong.push(`status must be ${[expect.status].flat().join(" or ")}; ${said}`);
  for (const [name, want] of Object.entries(expect.headers ?? {}))
    check(`header ${name}`, result.headers?.[name.toLowerCase()], want);
  check("body", result.body, expect.body);
  if (expect.bytes !== undefined && result.bytes !== expect.bytes)
    wrong.push(`body must have ${expect.bytes} bytes, has ${result.bytes}; ${said}`);
  if (expect.grpcStatus !== undefined && result.grpcStatus !== expect.grpcStatus)
    wrong.push(`gRPC status must be ${expect.grpcStatus}, is ${result.grpcStatus}; ${said}`);
  if (expect.messages) {
    const { messages = [] } = result;
    const good =
      messages.length === expect.messages.length && expect.messages.every((one, i) => matches(messages[i], one));
    if (!good) wrong.push(`messages must be ${quote(expect.messages)}, are ${quote(messages)}; ${said}`);
  }
  if (expect.addresses) {
    const [seen, want] = [[...(result.addresses ?? [])].sort(), [...expect.addresses].sort()];
    if (seen.join() !== want.join())
      wrong.push(`addresses must be ${want.join(", ")}, are ${seen.join(", ") || "none"}`);
  }
  const { atLeast, atMost } = expect.took ?? {};
  if (atLeast !== undefined && result.tookMs < atLeast)
    wrong.push(`took ${result.tookMs} ms, less than ${atLeast}; ${said}`);
  if (atMost !== undefined && result.tookMs > atMost)
    wrong.push(`took ${result.tookMs} ms, more than ${atMost}; ${said}`);
  const app = appOf(result, apps);
  for (const [field, want] of Object.entries(expect.app ?? {})) {
    check(`application's ${field}`, app?.[field as keyof NonNullable<Expectation["app"]>], want);
  }
  const { headers, ...fields } = expect.saw ?? {};
  for (const [field, want] of Object.entries(fields)) check(`${field} that was seen`, app?.[field as "path"], want);
  for (const [name, want] of Object.entries(headers ?? {}))
    check(`header ${name} that was seen`, app?.headers?.[name.toLowerCase()], want);
  if (expect.caller !== undefined) {
    if (!app) wrong.push(`no application saw the call; ${said}`);
    else check("caller", callerOf(app), expect.caller);
  }
  return wrong;
}

/** Who answered this call: by the answer itself, or as applications told of the request. */
export function appOf(result: Result, apps: readonly AppLine[]): AppLine | undefined {
  const told = apps.at(-1);
  const own = parsed(result.body) ?? parsed(result.servedBy);
  if (!own) return told;
  return own.headers ? own : { ...(told?.pod === own.pod ? told : {}), ...own };
}

function parsed(text: string | undefined): AppLine | undefined {
  if (!text?.startsWith("{")) return undefined;
  try {
    const value = JSON.parse(text) as AppLine;
    return typeof value.workload === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The last URI of x-forwarded-client-cert: who called the sidecar that is nearest to the application. */
function callerOf({ headers }: AppLine): string | undefined {
  const uris = [...(headers?.["x-forwarded-client-cert"] ?? "").matchAll(/URI=([^;,"]+)/g)];
  return uris.at(-1)?.[1];
}

type By = "cluster" | "namespace" | "workload" | "version" | "pod" | "status";

function fieldOf(result: Result, by: By): string {
  if (by === "status") return String(result.status ?? result.error ?? "none");
  return appOf(result, [])?.[by] ?? `no ${by} (${result.status ?? result.error})`;
}

function counted(results: readonly Result[], by: By): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const result of results) counts.set(fieldOf(result, by), (counts.get(fieldOf(result, by)) ?? 0) + 1);
  return counts;
}

function judgeShares({ share, distinct }: Expectation, results: readonly Result[]): readonly string[] {
  const wrong: string[] = [];
  if (share) {
    const counts = counted(results, share.by);
    const percent = (value: string) => (100 * (counts.get(value) ?? 0)) / results.length;
    const seen = [...counts.keys()].map((value) => `${value}: ${percent(value).toFixed(1)} %`).join(", ");
    const off = Object.entries(share.of).some(([value, want]) => Math.abs(percent(value) - want) > share.tolerance);
    const strange = [...counts.keys()].some((value) => !Object.hasOwn(share.of, value));
    if (off || strange) {
      const want = Object.entries(share.of).map(([value, percent]) => `${value}: ${percent} %`);
      wrong.push(`of ${results.length} calls must come ${want.join(", ")} (± ${share.tolerance}), came ${seen}`);
    }
  }
  if (distinct) {
    const counts = counted(results, distinct.by);
    if (counts.size !== distinct.count)
      wrong.push(
        `there must be ${distinct.count} different of ${distinct.by}, there are ${[...counts.keys()].join(", ")}`,
      );
  }
  return wrong;
}

function judgeReached({ reached }: Expectation, apps: readonly AppLine[]): readonly string[] {
  if (reached === undefined) return [];
  if (typeof reached === "number") {
    return apps.length === reached ? [] : [`${reached} requests must reach an application, ${apps.length} did`];
  }
  return [reached].flat().flatMap(({ at, is }) => {
    const [cluster, ...rest] = at.split("/");
    const seen = apps.filter((line) => line.cluster === cluster && line.workload === rest.at(-1)).length;
    return seen === is ? [] : [`${is} requests must reach ${at}, ${seen} did`];
  });
}

function tally(seen: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const one of seen) counts.set(one, (counts.get(one) ?? 0) + 1);
  return [...counts].map(([value, count]) => `${value} ×${count}`).join(", ") || "nothing";
}

function quote(value: unknown): string {
  return value === undefined ? "absent" : JSON.stringify(value).slice(0, 400);
}

/** One call's outcome in a few words. */
function tell({ error, why, status, body, tookMs, grpcStatus }: Result): string {
  if (error !== undefined) return `it ended with ${error} (${why}) after ${tookMs} ms`;
  const grpc = grpcStatus === undefined ? "" : `, gRPC status ${grpcStatus}`;
  const start = body === undefined || body === "" ? "" : `, ${JSON.stringify(body.slice(0, 300))}`;
  return `it was answered${status === undefined ? "" : ` ${status}`}${grpc} after ${tookMs} ms${start}`;
}
