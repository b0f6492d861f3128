import { Resolver } from "node:dns/promises";
import { writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { ZoneName } from "../src/dns/index.ts";
import { namesOf } from "./dns-process.ts";
import {
  benchFile,
  eventually,
  findProgram,
  freePorts,
  missing,
  needProgram,
  type Program,
  placement,
  runOn,
  scratchDir,
  startProgram,
} from "./machine.ts";
import { interleave, median, short, table } from "./report.ts";

// Queries a second and CPU time a query, over UDP on loopback, beside a well-known server with the same names. dnsperf asks
// both in turns, so that a busy machine is busy for each.

const roundSeconds = 2;
const rounds = 3;
const nameCount = 1000;
/** What a mesh is asked: addresses mostly, the AAAA that goes with each, a name that a search list makes up. */
const asked = (name: string) => [`${name} A`, `${name} A`, `${name} AAAA`, `${name}.global A`];

/** A name server that is up. */
interface Subject {
  readonly what: string;
  readonly port: number;
  readonly program: Program;
}

interface Round {
  readonly perSecond: number;
  readonly cpuMicros: number;
  readonly lost: number;
}

export async function run(print: (line: string) => void): Promise<void> {
  if (!needProgram("dnsperf", { print })) return missing(print, "DNS", "there is no dnsperf");
  const dir = scratchDir();
  const names = namesOf(nameCount);
  const queries = join(dir, "queries");
  writeFileSync(queries, `${names.flatMap(({ name }) => asked(name)).join("\n")}\n`);
  const subjects: Subject[] = [];
  try {
    const [port, otherPort] = await freePorts(2);
    const argv = [process.execPath, benchFile("dns-process.js"), String(port), String(nameCount)];
    const program = startProgram("measured", argv, { stdio: ["ignore", "ignore", "pipe", "ipc"] });
    subjects.push({ what: "isthmus", port, program });
    const peer = startPeer({ names, dir, port: otherPort });
    if (peer) subjects.push(peer);
    else
      missing(
        print,
        "another name server",
        "there is no coredns (ISTHMUS_COREDNS, PATH, ~/go/bin), dnsmasq or unbound",
      );
    for (const subject of subjects) {
      await eventually(`${subject.what} does not answer`, () => answers(subject.port));
      await measure(subject, queries);
    }
    print(`DNS over UDP, ${nameCount} names; ${placement()}`);
    const results = await interleave(subjects, rounds, (subject) => measure(subject, queries));
    const all = subjects.map((subject) => {
      const list = results.get(subject)!;
      return {
        what: subject.what,
        perSecond: median(list.map((round) => round.perSecond)),
        cpuMicros: median(list.map((round) => round.cpuMicros)),
        lost: list.reduce((sum, round) => sum + round.lost, 0),
        mb: subject.program.rssBytes() / 1e6,
      };
    });
    table(print, [
      ["", "queries/s", "CPU-µs/query", "lost", "memory MB"],
      ...all.map(({ what, perSecond, cpuMicros, lost, mb }) => [
        what,
        perSecond.toFixed(0),
        short(cpuMicros),
        String(lost),
        mb.toFixed(0),
      ]),
    ]);
    const [own, other] = all;
    if (own && other) {
      const rate = (own.perSecond / other.perSecond).toFixed(2);
      const cpu = (own.cpuMicros / other.cpuMicros).toFixed(2);
      print(`ratio to ${other.what}: ${rate} in queries/s, ${cpu} in CPU a query`);
    }
  } finally {
    await Promise.all(subjects.map(({ program }) => program.stop()));
  }
}

async function measure({ port, program }: Subject, queries: string): Promise<Round> {
  const before = program.cpuMicros();
  const stdout = await runOn("load", [
    "dnsperf",
    ...["-s", "127.0.0.1", "-p", String(port), "-d", queries],
    ...["-l", String(roundSeconds), "-c", "4", "-q", "64", "-t", "1"],
  ]);
  const used = program.cpuMicros() - before;
  const number = (label: string) => Number(new RegExp(`${label}:\\s+([\\d.]+)`).exec(stdout)?.[1] ?? Number.NaN);
  return {
    perSecond: number("Queries per second"),
    cpuMicros: used / number("Queries completed"),
    lost: number("Queries lost"),
  };
}

interface PeerOptions {
  readonly names: readonly ZoneName[];
  readonly dir: string;
  readonly port: number;
}

/** The first well-known server that this machine has, with the same names. */
function startPeer({ names, dir, port }: PeerOptions): Subject | undefined {
  const start = (what: string, argv: readonly string[]) => ({ what, port, program: startProgram("measured", argv) });
  const hosts = join(dir, "hosts");
  writeFileSync(hosts, `${names.map(({ name, addresses }) => `${addresses[0]} ${name}`).join("\n")}\n`);
  const coredns = process.env["ISTHMUS_COREDNS"] || findProgram("coredns", [join(homedir(), "go/bin")]);
  if (coredns) {
    const file = join(dir, "Corefile");
    writeFileSync(file, `global:${port} {\n  bind 127.0.0.1\n  hosts ${hosts} {\n    ttl 30\n    reload 0\n  }\n}\n`);
    return start("CoreDNS", [coredns, "-conf", file]);
  }
  const dnsmasq = findProgram("dnsmasq");
  if (dnsmasq) {
    const args = [
      ...["--keep-in-foreground", "--conf-file=/dev/null", `--port=${port}`, "--listen-address=127.0.0.1"],
      ...["--bind-interfaces", "--no-resolv", "--no-hosts", "--local=/global/", `--addn-hosts=${hosts}`],
      ...["--local-ttl=30", "--user=", "--pid-file"],
    ];
    return start("dnsmasq (no CoreDNS here)", [dnsmasq, ...args]);
  }
  const unbound = findProgram("unbound");
  if (unbound) {
    const file = join(dir, "unbound.conf");
    const data = names.map(({ name, addresses }) => `  local-data: "${name}. 30 IN A ${addresses[0]}"`);
    const settings = ["do-daemonize: no", "interface: 127.0.0.1", `port: ${port}`, 'username: ""', 'chroot: ""'];
    const rest = ["use-syslog: no", 'pidfile: ""', "num-threads: 1", 'local-zone: "global." static'];
    const lines = [...settings, ...rest].map((line) => `  ${line}`);
    writeFileSync(file, `server:\n${[...lines, ...data].join("\n")}\n`);
    return start("unbound (no CoreDNS here)", [unbound, "-d", "-c", file]);
  }
  return undefined;
}

async function answers(port: number): Promise<void> {
  const resolver = new Resolver({ timeout: 300, tries: 1 });
  resolver.setServers([`127.0.0.1:${port}`]);
  await resolver.resolve4("service-0.ns-0.global");
}
