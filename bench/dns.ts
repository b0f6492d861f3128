import { type ChildProcess, execFile, spawn } from "node:child_process";
import { Resolver } from "node:dns/promises";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { Cell, Metrics, Scope, silentLogger, sleep, systemClock } from "../src/base/index.ts";
import { buildZone, startDnsServer, type ZoneName } from "../src/dns/index.ts";
import { type Ip, ipv4FromNumber, parseHostname } from "../src/values/index.ts";

// Queries a second and CPU time a query, over UDP on loopback, beside a well-known server with the same names. dnsperf asks
// both in turns, so that a busy machine is busy for each.

const roundSeconds = 1;
const rounds = 3;
const nameCount = 1000;
/** What a mesh is asked: addresses mostly, the AAAA that goes with each, a name that a search list makes up. */
const asked = (name: string) => [`${name} A`, `${name} A`, `${name} AAAA`, `${name}.global A`];

/** A name server that is up: where, and what CPU time it has used, in microseconds. */
interface Subject {
  readonly what: string;
  readonly port: number;
  cpuMicros(): number;
}

interface Round {
  readonly perSecond: number;
  readonly cpuMicrosPerQuery: number;
  readonly lost: number;
}

export async function run(print: (line: string) => void): Promise<void> {
  if (!findProgram("dnsperf")) {
    print("dnsperf is missing: apt-get install dnsperf");
    return;
  }
  const dir = mkdtempSync(join(tmpdir(), "isthmus-bench-dns-"));
  const scope = new Scope();
  scope.defer(() => rmSync(dir, { recursive: true, force: true }));
  try {
    const names: ZoneName[] = Array.from({ length: nameCount }, (_, i) => ({
      name: parseHostname(`service-${i}.ns-${i % 20}.global`)!,
      addresses: [ipv4FromNumber(0xf0f00001 + i)],
    }));
    const queries = join(dir, "queries");
    writeFileSync(queries, `${names.flatMap(({ name }) => asked(name)).join("\n")}\n`);
    const subjects = [await ourselves(names, scope)];
    const peer = await startPeer({ names, dir, scope });
    if (peer) subjects.push(peer);
    else print("nothing to compare with: put coredns, dnsmasq or unbound on the PATH, or name one in ISTHMUS_COREDNS");
    const results = new Map<Subject, Round[]>(subjects.map((subject) => [subject, []]));
    for (let round = 0; round < rounds; round++) {
      for (const subject of subjects) results.get(subject)!.push(await measure(subject, queries));
    }
    const best = subjects.map((subject) => ({ subject, ...median(results.get(subject)!) }));
    for (const { subject, perSecond, cpuMicrosPerQuery, lost } of best) {
      print(
        `${subject.what.padEnd(24)} ${perSecond.toFixed(0).padStart(8)} queries/s  ${cpuMicrosPerQuery.toFixed(1).padStart(6)} CPU-µs a query  ${lost} lost`,
      );
    }
    const [own, other] = best;
    if (own && other) {
      const rate = (own.perSecond / other.perSecond).toFixed(2);
      const cpu = (own.cpuMicrosPerQuery / other.cpuMicrosPerQuery).toFixed(2);
      print(`ratio to ${other.subject.what}: ${rate} in queries/s, ${cpu} in CPU a query`);
    }
  } finally {
    await scope.close();
  }
}

async function ourselves(names: readonly ZoneName[], scope: Scope): Promise<Subject> {
  const suffixes = [parseHostname("global")!];
  const server = await startDnsServer(
    {
      listen: [{ ip: "127.0.0.1" as Ip, port: 0 }],
      zone: new Cell(buildZone({ names, suffixes })),
      log: silentLogger,
      metrics: new Metrics(),
      clock: systemClock,
    },
    scope,
  );
  return {
    what: "isthmus",
    port: server.addresses[0]!.port,
    cpuMicros() {
      const { user, system } = process.cpuUsage();
      return user + system;
    },
  };
}

async function measure(subject: Subject, queries: string): Promise<Round> {
  const before = subject.cpuMicros();
  const { stdout } = await promisify(execFile)("dnsperf", [
    ...["-s", "127.0.0.1", "-p", String(subject.port), "-d", queries],
    ...["-l", String(roundSeconds), "-c", "4", "-q", "64", "-t", "1"],
  ]);
  const used = subject.cpuMicros() - before;
  const number = (label: string) => Number(new RegExp(`${label}:\\s+([\\d.]+)`).exec(stdout)?.[1] ?? Number.NaN);
  const completed = number("Queries completed");
  return {
    perSecond: number("Queries per second"),
    cpuMicrosPerQuery: used / completed,
    lost: number("Queries lost"),
  };
}

function median(all: readonly Round[]): Round {
  return [...all].sort((a, b) => a.perSecond - b.perSecond)[all.length >> 1]!;
}

interface PeerOptions {
  readonly names: readonly ZoneName[];
  readonly dir: string;
  readonly scope: Scope;
}

/** The first well-known server that this machine has, with the same names. */
async function startPeer(options: PeerOptions): Promise<Subject | undefined> {
  const { names, dir } = options;
  const port = await freePort();
  const hosts = join(dir, "hosts");
  writeFileSync(hosts, `${names.map(({ name, addresses }) => `${addresses[0]} ${name}`).join("\n")}\n`);
  const coredns = process.env["ISTHMUS_COREDNS"] || findProgram("coredns", [join(homedir(), "go/bin")]);
  if (coredns) {
    const file = join(dir, "Corefile");
    writeFileSync(file, `global:${port} {\n  bind 127.0.0.1\n  hosts ${hosts} {\n    ttl 30\n    reload 0\n  }\n}\n`);
    return startProgram({ ...options, what: "coredns", program: coredns, args: ["-conf", file], port });
  }
  const dnsmasq = findProgram("dnsmasq", ["/usr/sbin"]);
  if (dnsmasq) {
    const args = [
      ...["--keep-in-foreground", "--conf-file=/dev/null", `--port=${port}`, "--listen-address=127.0.0.1"],
      ...["--bind-interfaces", "--no-resolv", "--no-hosts", "--local=/global/", `--addn-hosts=${hosts}`],
      ...["--local-ttl=30", "--user=", "--pid-file"],
    ];
    return startProgram({ ...options, what: "dnsmasq", program: dnsmasq, args, port });
  }
  const unbound = findProgram("unbound", ["/usr/sbin"]);
  if (unbound) {
    const file = join(dir, "unbound.conf");
    const data = names.map(({ name, addresses }) => `  local-data: "${name}. 30 IN A ${addresses[0]}"`);
    const settings = ["do-daemonize: no", "interface: 127.0.0.1", `port: ${port}`, 'username: ""', 'chroot: ""'];
    const rest = ["use-syslog: no", 'pidfile: ""', "num-threads: 1", 'local-zone: "global." static'];
    const lines = [...settings, ...rest].map((line) => `  ${line}`);
    writeFileSync(file, `server:\n${[...lines, ...data].join("\n")}\n`);
    return startProgram({ ...options, what: "unbound", program: unbound, args: ["-d", "-c", file], port });
  }
  return undefined;
}

async function startProgram(
  options: PeerOptions & {
    readonly what: string;
    readonly program: string;
    readonly args: readonly string[];
    readonly port: number;
  },
): Promise<Subject> {
  const child = spawn(options.program, options.args, { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-2000);
  });
  options.scope.defer(() => stop(child));
  const tried = systemClock.monotonic();
  while (!(await answers(options.port))) {
    if (child.exitCode !== null || systemClock.monotonic() - tried > 5_000) {
      throw new Error(`${options.what} did not come up: ${errors.trim()}`);
    }
    await sleep(systemClock, 100);
  }
  return { what: options.what, port: options.port, cpuMicros: () => cpuMicrosOf(child.pid!) };
}

async function answers(port: number): Promise<boolean> {
  const resolver = new Resolver({ timeout: 300, tries: 1 });
  resolver.setServers([`127.0.0.1:${port}`]);
  return resolver.resolve4("service-0.ns-0.global").then(
    () => true,
    () => false,
  );
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const exited = new Promise((done) => child.once("exit", done));
  child.kill("SIGTERM");
  await exited;
}

/** User and system time so far, from proc(5), whose unit is a hundredth of a second. */
function cpuMicrosOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

function findProgram(name: string, more: readonly string[] = []): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), ...more];
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}
