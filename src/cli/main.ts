#!/usr/bin/env node
import { Command, CommanderError } from "commander";
import { Failure, packageVersion } from "../base/index.ts";
import { exitCodes, printFailure } from "./output.ts";
import { strictUsage } from "./usage.ts";

type LoadCommand = (done: (code: number) => void) => Promise<Command>;

/** The commands in the order of the help. Each is loaded when it is wanted: a sidecar need not carry a control plane. */
const commands: ReadonlyArray<readonly [name: string, load: LoadCommand]> = [
  ["demo", async (done) => (await import("./commands/demo.ts")).demoCommand(done)],
  ["lab", async (done) => (await import("./commands/lab.ts")).labCommand(done)],
  ["validate", async (done) => (await import("./commands/validate.ts")).validateCommand(done)],
  ["install", async () => (await import("./commands/install.ts")).installCommand()],
  ["upgrade", async () => (await import("./commands/upgrade.ts")).upgradeCommand()],
  ["verify-install", async (done) => (await import("./commands/verify-install.ts")).verifyInstallCommand(done)],
  ["uninstall", async () => (await import("./commands/uninstall.ts")).uninstallCommand()],
  ["manifest", async (done) => (await import("./commands/manifest.ts")).manifestCommand(done)],
  ["dns", async (done) => (await import("./commands/dns.ts")).dnsCommand(done)],
  ["ca", async () => (await import("./commands/ca.ts")).caCommand()],
  ["controlplane", async () => (await import("./commands/controlplane.ts")).controlplaneCommand()],
  ["proxy", async () => (await import("./commands/proxy.ts")).proxyCommand()],
  ["agent", async () => (await import("./commands/agent.ts")).agentCommand()],
  ["capture", async () => (await import("./commands/capture.ts")).captureCommand()],
  ["wait", async () => (await import("./commands/wait.ts")).waitCommand()],
  ["kube-inject", async () => (await import("./commands/kube-inject.ts")).kubeInjectCommand()],
  ["envoy", async () => (await import("./commands/envoy.ts")).envoyCommand()],
  ["xds", async () => (await import("./commands/xds.ts")).xdsCommand()],
];

/** The commands that a command line needs: the one that it names; for help and for what nobody knows, all of them. */
function wantedBy([first]: readonly string[]): typeof commands {
  if (first === "-V" || first === "--version") return [];
  const named = commands.filter(([name]) => name === first);
  return named.length > 0 ? named : commands;
}

/** What follows the program's name, to an exit code. The only place that prints a `Failure`. */
export async function run(args: readonly string[]): Promise<number> {
  let exitCode: number = exitCodes.good;
  const done = (code: number) => {
    exitCode = code;
  };
  const program = new Command("isthmus")
    .description("One service mesh over many clusters, joined only at gateways and by a shared root of trust.")
    .version(packageVersion(), "-V, --version")
    .exitOverride()
    .configureHelp({ sortSubcommands: false, showGlobalOptions: true })
    .showSuggestionAfterError()
    .showHelpAfterError("(isthmus --help lists what there is)");
  for (const [, load] of wantedBy(args)) program.addCommand(strictUsage(await load(done)));
  try {
    await program.parseAsync([...args], { from: "user" });
    return exitCode;
  } catch (caught) {
    if (caught instanceof CommanderError) return caught.exitCode === 0 ? exitCodes.good : exitCodes.usage;
    printFailure(caught);
    return exitCodeOf(caught);
  }
}

/** A wrong option is a matter of usage; wrong manifests and names are a verdict; all else could not be done. */
function exitCodeOf(caught: unknown): number {
  const { code } = Failure.from(caught);
  if (code.startsWith("usage/")) return exitCodes.usage;
  return code.startsWith("input/") ? exitCodes.wrong : exitCodes.failed;
}

// A reader that went away (`| head`) is no failure of ours. What it did not want to read is not written elsewhere.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(Number(process.exitCode ?? exitCodes.good));
  throw error;
});
process.stderr.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
});

process.exitCode = await run(process.argv.slice(2));
