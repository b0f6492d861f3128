import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFailed, onTestFinished, type TestContext } from "vitest";
import { askDns, parseVersion, type Version } from "../../src/install/index.ts";

/** A real CoreDNS on this machine. */
export interface Coredns {
  readonly file: string;
  readonly version: Version;
  readonly name: string;
}

/** Those that checks/dns/build-coredns.sh has built, oldest first. */
export function corednsBinaries(env: NodeJS.ProcessEnv = process.env): readonly Coredns[] {
  const home = join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "isthmus/coredns");
  if (!existsSync(home)) return [];
  return readdirSync(home)
    .flatMap((name) => {
      const version = parseVersion(/^coredns-(v.*)$/.exec(name)?.[1] ?? "");
      return version ? [{ file: join(home, name), version, name: name.replace("coredns-v", "") }] : [];
    })
    .sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
}

export interface Running {
  readonly corefile: string;
  /** All that it wrote so far. */
  output(): string;
  /** Its exit code; undefined while it runs. */
  ended(): number | undefined;
}

/** Starts it with a Corefile of this text; it ends with the test. */
export function runCoredns(binary: Coredns, text: string): Running {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-coredns-"));
  const corefile = join(folder, "Corefile");
  writeFileSync(corefile, text);
  const child: ChildProcess = spawn(binary.file, ["-conf", corefile], { cwd: folder });
  let output = "";
  let code: number | undefined;
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (output += chunk));
  const gone = new Promise<void>((resolve) => {
    // Not "exit": its last words may come after that.
    child.once("close", (exit, signal) => {
      code = exit ?? (signal ? -1 : 0);
      resolve();
    });
  });
  onTestFailed(() => console.error(`CoreDNS ${binary.name}, ended with ${code}, said:\n${output}`));
  onTestFinished(async () => {
    if (code === undefined) child.kill("SIGKILL");
    await gone;
    rmSync(folder, { recursive: true });
  });
  return { corefile, output: () => output, ended: () => code };
}

/**
 * Gives a file this text, whole or not at all, as a kubelet does: CoreDNS opens it by its path at each look, and does not
 * try a configuration that it refused a second time, so half a file would be refused for good.
 */
export function writeWhole(path: string, text: string): void {
  if (existsSync(path) && readFileSync(path, "utf8") === text) return;
  // No `import` of ours takes a name that ends like this.
  writeFileSync(`${path}.part`, text);
  renameSync(`${path}.part`, path);
}

/** What a name server says, in short. Patient: on a busy machine an answer takes its time. */
export async function answerOf(server: Parameters<typeof askDns>[0], name: string): Promise<string> {
  const said = await askDns(server, name, 10_000);
  return said.kind === "addresses" ? said.addresses.join() : said.kind;
}

/** A port that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Says why these tests do not run: skipped with the reason, or failed where `ISTHMUS_REQUIRE` wants them. */
export function notAble(context: Pick<TestContext, "skip">): void {
  const why =
    "needs root, and CoreDNS (checks/dns/build-coredns.sh) and control planes (scripts/install-kubernetes.sh)";
  if (/\b(all|kubernetes)\b/.test(process.env["ISTHMUS_REQUIRE"] ?? "")) throw new Error(`${why}, which are required`);
  context.skip(why);
}
