import { resolve } from "node:path";
import { Command, Option } from "commander";
import { createLogger, Failure, Metrics, systemClock } from "../../base/index.ts";
import { envoyPlaces, locateEnvoy, startEnvoyAgent } from "../../proxy/index.ts";
import { type AgentFlags, agentConfigFrom, withAgentOptions } from "../agent-flags.ts";
import { parseDuration } from "../duration.ts";
import { portNumber, workersCount } from "../flags.ts";
import { printLine } from "../output.ts";
import { runUntilSignalled } from "../service.ts";

interface Flags extends AgentFlags {
  readonly envoy?: string;
  readonly runDir?: string;
  readonly concurrency?: number;
  readonly envoyExplicitPort?: string;
  readonly envoyLogLevel: string;
}

const envoyLogLevels = ["trace", "debug", "info", "warning", "error", "critical", "off"] as const;

/** `isthmus agent`: an unmodified Envoy with all that it needs beside it, as a sidecar or a gateway. */
export function agentCommand(): Command {
  const command = new Command("agent").description(
    "run a stock Envoy beside a workload, or as a gateway, and its agent",
  );
  return withAgentOptions(command)
    .option("--envoy <file>", "the Envoy to run; else ISTHMUS_ENVOY, PATH, or what isthmus envoy install put there")
    .option("--run-dir <dir>", "for sockets and the bootstrap, of this agent alone; a temporary one when absent")
    .option("--concurrency <workers>", "Envoy's worker threads; 0 or absent for one a core", workersCount)
    .option("--envoy-explicit-port <port>", "with --explicit-port: a port on 127.0.0.1 between the agent and its Envoy")
    .addOption(new Option("--envoy-log-level <level>").choices(envoyLogLevels).default("warning"))
    .action((flags: Flags) => {
      const log = createLogger({ level: flags.logLevel, name: "agent" });
      const metrics = new Metrics();
      metrics.collectProcess();
      const { admin, ...config } = agentConfigFrom(flags);
      const adminPort = flags.adminPort === "off" ? undefined : portNumber(flags.adminPort, "--admin-port");
      if (flags.explicitPort !== undefined && flags.envoyExplicitPort === undefined)
        throw new Failure("usage/port", "--explicit-port wants --envoy-explicit-port: Envoy listens behind the agent");
      const explicitPort =
        flags.envoyExplicitPort === undefined
          ? undefined
          : portNumber(flags.envoyExplicitPort, "--envoy-explicit-port");
      return runUntilSignalled({ log, drainMs: parseDuration(flags.drain, "--drain") }, async (scope) => {
        const { path: binary, version } = await locateEnvoy(envoyPlaces(process.env, flags.envoy));
        log.info({ binary, version }, "Envoy found");
        await startEnvoyAgent(
          {
            ...config,
            // The port on loopback is Envoy's own here.
            admin: flags.admin ? admin.slice(0, 1) : [],
            envoy: {
              binary,
              adminPort,
              runDir: flags.runDir === undefined ? undefined : resolve(flags.runDir),
              concurrency: flags.concurrency || undefined,
              logLevel: flags.envoyLogLevel,
              explicitPort,
            },
          },
          { clock: systemClock, random: Math.random, log, metrics, writeLine: printLine },
          scope,
        );
      });
    });
}
