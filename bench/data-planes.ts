import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { Scope } from "../src/base/index.ts";
import { envoyPlaces, locateEnvoy } from "../src/proxy/index.ts";
import { serveSecrets, serveSnapshots } from "./discovery.ts";
import { type Call, drive } from "./drive.ts";
import { startEnvoy } from "./envoy.ts";
import type { Issued } from "./issued.ts";
import type { Load } from "./load.ts";
import { eventually, freePorts, missing, needProgram, type Program, placement, scratchDir } from "./machine.ts";
import { BenchAuthority, startProxyProcess, withoutAccessLogs } from "./mesh.ts";
import {
  farHost,
  nearHost,
  nodeIds,
  type PlanePorts,
  planeSnapshots,
  type Role,
  type SpokenPorts,
} from "./planes-mesh.ts";
import { interleave, median, megabytes, short, table } from "./report.ts";
import { startHaproxy, startNginx } from "./rivals.ts";

/*
 * Envoy and the embedded proxy, told the same by the same control plane, in turns: one proxy, and the whole path between
 * clusters; plaintext and mutual TLS; HTTP/1.1, HTTP/2 and plain bytes; small answers and such of 1 MiB. One worker each,
 * all proxies of both on one core, load and application on the other.
 */

const seconds = Number(process.env["BENCH_SECONDS"] ?? 2);
const rounds = Number(process.env["BENCH_ROUNDS"] ?? 3);
const only = new RegExp(process.env["BENCH_ONLY"] ?? "");
const withLogs = process.env["BENCH_ACCESS_LOG"] === "1";
const atOnce = 32;

type PlaneName = "embedded" | "envoy";

interface Plane {
  readonly name: PlaneName;
  readonly ports: PlanePorts;
  start(role: Role): Promise<Program>;
}

/** A data plane that runs. */
interface Running extends Plane {
  readonly programs: Readonly<Record<Role, Program>>;
}

interface Case {
  readonly what: string;
  readonly speaks: Call["speaks"];
  readonly path: "/small" | "/1m";
  readonly host?: string;
  /** What the call passes through, and where it enters. */
  readonly through: readonly Role[];
  readonly enters: (ports: PlanePorts) => number;
  /** The application, without any proxy. */
  readonly direct: keyof SpokenPorts;
}

const cases: readonly Case[] = [
  ...(["/small", "/1m"] as const).flatMap((path): Case[] => {
    const size = path === "/small" ? "small" : "1 MiB";
    const through = ["server"] as const;
    const all = ["client", "gateway", "server"] as const;
    const at = (authority: string, port: number) => ({ path, host: `${authority}:${port}` });
    const call = (what: string, rest: Omit<Case, "what" | "path">): Case => ({
      path,
      what: `${what}, ${size}`,
      ...rest,
    });
    const h1 = { speaks: "http1", direct: "http1" } as const;
    const h2 = { speaks: "http2", direct: "http2" } as const;
    const tcp = { speaks: "http1", direct: "tcp" } as const;
    return [
      call("one hop, plaintext, HTTP/1.1", { ...h1, through, enters: ({ server }) => server.http1 }),
      call("one hop, plaintext, HTTP/2", { ...h2, through, enters: ({ server }) => server.http2 }),
      call("one hop, plaintext, TCP", { ...tcp, through, enters: ({ server }) => server.tcp }),
      call("one hop, mTLS, HTTP/1.1", {
        ...h1,
        ...at(nearHost, 8000),
        through: ["client"],
        enters: ({ client }) => client.http1,
      }),
      call("one hop, mTLS, HTTP/2", {
        ...h2,
        ...at(nearHost, 8002),
        through: ["client"],
        enters: ({ client }) => client.http2,
      }),
      call("one hop, mTLS, TCP", { ...tcp, through: ["client"], enters: ({ client }) => client.nearTcp }),
      call("between clusters, mTLS, HTTP/1.1", {
        ...h1,
        ...at(farHost, 8000),
        through: all,
        enters: ({ client }) => client.http1,
      }),
      call("between clusters, mTLS, HTTP/2", {
        ...h2,
        ...at(farHost, 8002),
        through: all,
        enters: ({ client }) => client.http2,
      }),
      call("between clusters, mTLS, TCP", { ...tcp, through: all, enters: ({ client }) => client.tcp }),
    ];
  }),
].filter(({ what }) => only.test(what));

export async function run(print: (line: string) => void): Promise<void> {
  const [nginx, haproxy, wrk] = ["nginx", "haproxy", "wrk"].map((name) => needProgram(name, { print }));
  const h2load = needProgram("h2load", { pkg: "nghttp2-client", print });
  if (!nginx || !haproxy || !wrk || !h2load)
    return missing(print, "the data planes", "it takes nginx, haproxy, wrk and h2load");
  const { path: envoy, version } = await locateEnvoy(envoyPlaces(process.env));
  const dir = scratchDir();
  const scope = new Scope();
  const running: Program[] = [];
  const started = (program: Program): Program => {
    running.push(program);
    return program;
  };
  try {
    const authority = new BenchAuthority();
    const app = spoken(await freePorts(2));
    const near = spoken(await freePorts(2));
    started(startNginx({ dir, place: "load", program: nginx, http: application(dir, app) }));
    const config = mutualTls(dir, { near, app, issued: authority.issue("bar", "httpbin") });
    started(startHaproxy({ dir, program: haproxy, place: "load", config }));
    const planes: Running[] = [];
    print(`Envoy ${version} and the embedded proxy, access logs ${withLogs ? "on" : "off"}; ${placement()}`);
    const idle: Plane[] = [];
    for (const name of ["embedded", "envoy"] as const)
      idle.push(await planPlane({ dir, name, envoy, authority, app, near, started, scope }));
    await compareStarts(print, dir, idle);
    for (const plane of idle) {
      const server = await plane.start("server");
      const gateway = await plane.start("gateway");
      planes.push({ ...plane, programs: { server, gateway, client: await plane.start("client") } });
    }
    await compareCases(print, { dir, app, planes });
  } finally {
    await Promise.all(running.map((program) => program.stop()));
    await scope.close();
  }
}

const spoken = ([http1, http2]: readonly [number, number]): SpokenPorts => ({ http1, http2, tcp: http1 });

function application(dir: string, { http1, http2 }: SpokenPorts): string {
  const root = join(dir, "files");
  mkdirSync(root);
  writeFileSync(join(root, "1m"), "");
  truncateSync(join(root, "1m"), 1024 * 1024);
  const locations = `location /1m { root ${root}; sendfile on; } location / { return 200 "hello, a small answer\\n"; }`;
  return `server { listen 127.0.0.1:${http1}; ${locations} }\nserver { listen 127.0.0.1:${http2} http2; ${locations} }`;
}

/** A server of mutual TLS that a sidecar may call without another sidecar in front of it. */
function mutualTls(
  dir: string,
  given: { readonly near: SpokenPorts; readonly app: SpokenPorts; readonly issued: Issued },
): string {
  const { near, app, issued } = given;
  writeFileSync(join(dir, "near.pem"), `${issued.chain}${issued.key}`, { mode: 0o600 });
  writeFileSync(join(dir, "roots.pem"), issued.roots);
  const tls = `ssl crt ${join(dir, "near.pem")} ca-file ${join(dir, "roots.pem")} verify required`;
  return `frontend in
  mode http
  bind 127.0.0.1:${near.http1} ${tls}
  bind 127.0.0.1:${near.http2} ${tls} proto h2
  use_backend files if { path /1m }
  http-request return status 200 content-type text/plain string "hello, a small answer" unless { path /1m }
backend files
  mode http
  http-reuse always
  server app 127.0.0.1:${app.http1}\n`;
}

const accounts = {
  client: ["foo", "sleep"],
  gateway: ["isthmus-system", "gateway"],
  server: ["bar", "httpbin"],
} as const;

async function planPlane(options: {
  readonly dir: string;
  readonly name: PlaneName;
  readonly envoy: string;
  readonly authority: BenchAuthority;
  readonly app: SpokenPorts;
  readonly near: SpokenPorts;
  readonly started: (program: Program) => Program;
  readonly scope: Scope;
}): Promise<Plane> {
  const { dir, name, envoy, authority, app, near, started, scope } = options;
  const [c1, c2, c3, c4, gateway, s1, s2, s3] = await freePorts(8);
  const ports: PlanePorts = {
    client: { http1: c1, http2: c2, tcp: c3, nearTcp: c4 },
    gateway,
    server: { http1: s1, http2: s2, tcp: s3 },
  };
  const snapshots = planeSnapshots(ports, { app, near });
  const told = new Map(
    (Object.keys(nodeIds) as Role[]).map((role) => {
      const snapshot = snapshots[role];
      return [nodeIds[role], withLogs ? snapshot : withoutAccessLogs(snapshot)] as const;
    }),
  );
  const controlPlane = await serveSnapshots(told, scope);
  const certificates = {
    client: authority.issue(...accounts.client),
    gateway: authority.issue(...accounts.gateway),
    server: authority.issue(...accounts.server),
  };
  let serial = 0;
  const start = async (role: Role): Promise<Program> => {
    const as = `${name}-${role}-${serial++}`;
    const node = nodeIds[role];
    const certificate = certificates[role];
    if (name === "embedded") {
      const file = { told: { kind: "by", controlPlane, node } as const, certificate };
      return started(await startProxyProcess({ dir, name: as, file }));
    }
    const secrets = await serveSecrets({ dir, name: as, issued: certificate }, scope);
    return started(startEnvoy({ dir, name: as, envoy, node, controlPlane, secrets }));
  };
  return { name, ports, start };
}

/** From the start of the process until a call goes through it. */
async function compareStarts(print: Print, dir: string, planes: readonly Plane[]): Promise<void> {
  const results = await interleave(planes, rounds, async (plane) => {
    const began = performance.now();
    const sidecar = await plane.start("server");
    await connected(plane.ports.server.http1);
    const ms = performance.now() - began;
    await drive({ speaks: "http1", port: plane.ports.server.http1, path: "/small" }, { dir, atOnce: 1, seconds: 1 });
    const { cpuMs, rss } = { cpuMs: sidecar.cpuMicros() / 1000, rss: sidecar.rssBytes() };
    await sidecar.stop();
    return { ms, cpuMs, rss };
  });
  const rows = planes.map((plane) => {
    const list = results.get(plane)!;
    const [ms, rss] = [list.map((one) => one.ms), list.map((one) => one.rss)];
    return [
      plane.name,
      median(ms).toFixed(0),
      `${Math.min(...ms).toFixed(0)}–${Math.max(...ms).toFixed(0)}`,
      megabytes(median(rss)),
    ];
  });
  table(print, [["a sidecar's start", "ms until it listens", "from–to", "memory MB after a second's calls"], ...rows]);
}

async function connected(port: number): Promise<void> {
  const until = performance.now() + 10_000;
  for (;;) {
    const ok = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: "127.0.0.1", port });
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (ok) return;
    if (performance.now() > until) throw new Error(`nothing listens on port ${port} after 10 s`);
    await new Promise((done) => setTimeout(done, 5));
  }
}

interface Round {
  readonly busy: Load;
  readonly alone: Load;
  /** CPU time a request, by proxy on the way; nothing for the application alone. */
  readonly cpuMicros: readonly number[];
}

async function compareCases(
  print: Print,
  { dir, app, planes }: { readonly dir: string; readonly app: SpokenPorts; readonly planes: readonly Running[] },
): Promise<void> {
  for (const one of cases) {
    try {
      report(print, one, { planes, ...(await compareCase(one, { dir, app, planes })) });
    } catch (caught) {
      print("");
      missing(print, one.what, (caught as Error).message);
    }
  }
  for (const { name, programs } of planes) {
    const each = Object.entries(programs).map(([role, program]) => `${role} ${megabytes(program.rssBytes())}`);
    print(`memory MB after all that: ${name}: ${each.join(", ")}`);
  }
}

async function compareCase(
  one: Case,
  { dir, app, planes }: { readonly dir: string; readonly app: SpokenPorts; readonly planes: readonly Running[] },
): Promise<{ readonly direct: readonly Round[]; readonly rounds: ReadonlyArray<readonly Round[]> }> {
  const { speaks, path, host } = one;
  const measure = async (port: number, programs: readonly Program[]): Promise<Round> => {
    const before = programs.map((program) => program.cpuMicros());
    const busy = await drive({ speaks, path, host, port }, { dir, atOnce, seconds });
    const cpuMicros = programs.map((program, i) => (program.cpuMicros() - before[i]!) / busy.requests);
    const alone = await drive({ speaks, path, host, port }, { dir, atOnce: 1, seconds: 1 });
    return { busy, alone, cpuMicros };
  };
  for (const { ports, name } of planes) {
    const call = { speaks, path, host, port: one.enters(ports) };
    // The first calls also wait for the proxy to be told; a compiler has then seen enough of its code.
    await eventually(`${name}: "${one.what}" is not answered`, () => drive(call, { dir, atOnce: 1, seconds: 1 }));
    await warm((secondsEach) => drive(call, { dir, atOnce, seconds: secondsEach }));
  }
  const subjects = [undefined, ...planes];
  const results = await interleave(subjects, rounds, (plane) =>
    plane
      ? measure(
          one.enters(plane.ports),
          one.through.map((role) => plane.programs[role]),
        )
      : measure(app[one.direct], []),
  );
  return { direct: results.get(undefined)!, rounds: planes.map((plane) => results.get(plane)!) };
}

/** Until compilers have seen enough of it, or for some seconds at most. */
async function warm(run: (seconds: number) => Promise<Load>): Promise<void> {
  for (let second = 0, done = 0; second < 4 && done < 15_000; second++) {
    const { requests, perSecond } = await run(1);
    done += perSecond < 1_000 ? 5_000 + requests : requests;
  }
}

function report(
  print: Print,
  { what }: Case,
  measured: {
    readonly direct: readonly Round[];
    readonly planes: readonly Running[];
    readonly rounds: ReadonlyArray<readonly Round[]>;
  },
): void {
  const added = (list: readonly Round[], of: (load: Load) => number) =>
    (median(list.map(({ alone }) => of(alone))) - median(measured.direct.map(({ alone }) => of(alone)))).toFixed(0);
  const cpu = ({ cpuMicros }: Round) => cpuMicros.reduce((sum, each) => sum + each, 0);
  const middle = (list: readonly Round[], of: (round: Round) => number) => median(list.map(of));
  const rows = measured.planes.map(({ name }, i) => {
    const list = measured.rounds[i]!;
    return [
      `  ${name}`,
      middle(list, ({ busy }) => busy.perSecond).toFixed(0),
      short(middle(list, cpu)),
      (1e6 / middle(list, cpu)).toFixed(0),
      short(middle(list, ({ busy }) => busy.p50Micros / 1000)),
      short(middle(list, ({ busy }) => busy.p99Micros / 1000)),
      added(list, ({ p50Micros }) => p50Micros),
      added(list, ({ p99Micros }) => p99Micros),
      list[0]!.cpuMicros.length > 1
        ? list[0]!.cpuMicros.map((_, at) => short(middle(list, ({ cpuMicros }) => cpuMicros[at]!))).join(" + ")
        : "",
    ];
  });
  const [ours, theirs] = measured.rounds as readonly [readonly Round[], readonly Round[]];
  const ratio = (of: (round: Round) => number) => {
    const each = ours.map((round, i) => of(round) / of(theirs[i]!));
    return `${short(median(each))} (${short(Math.min(...each))}–${short(Math.max(...each))})`;
  };
  print("");
  table(print, [
    [
      what,
      "requests/s",
      "CPU-µs each",
      "per core-second",
      `p50 ms at ${atOnce}`,
      "p99 ms",
      "added p50 µs at 1",
      "p99 µs",
      "by proxy",
    ],
    ...rows,
  ]);
  print(`  embedded / Envoy: requests/s ${ratio(({ busy }) => busy.perSecond)}, CPU ${ratio(cpu)}`);
}

type Print = (line: string) => void;
