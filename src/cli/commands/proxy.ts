import { availableParallelism } from "node:os";
import { Command } from "commander";
import { createLogger, Failure, Metrics, systemClock } from "../../base/index.ts";
import { startAgent, workerProgram } from "../../proxy/index.ts";
import { type Cidr, parseCidr } from "../../values/index.ts";
import { type AgentFlags, agentConfigFrom, list, withAgentOptions } from "../agent-flags.ts";
import { parseDuration } from "../duration.ts";
import { workersCount } from "../flags.ts";
import { runUntilSignalled } from "../service.ts";

interface Flags extends AgentFlags {
  readonly captured?: string;
  readonly concurrency: number;
}

/** `isthmus proxy`: the embedded data plane with its agent, as a sidecar or a gateway. */
export function proxyCommand(): Command {
  const command = new Command("proxy").description("run the embedded proxy beside a workload, or as a gateway");
  return withAgentOptions(command)
    .option("--captured <cidr,…>", "ranges that are captured whoever connects; the proxy itself never goes there")
    .option(
      "--concurrency <workers>",
      "processes that serve connections, each on a core of its own; 0 for one a core",
      workersCount,
      1,
    )
    .action((flags: Flags) => {
      const log = createLogger({ level: flags.logLevel, name: "proxy" });
      const metrics = new Metrics();
      metrics.collectProcess();
      const count = flags.concurrency === 0 ? availableParallelism() : flags.concurrency;
      const config = {
        ...agentConfigFrom(flags),
        captured: list(flags.captured).map(parseRange),
        workers: { count, program: workerProgram({ logLevel: flags.logLevel, env: process.env }) },
      };
      return runUntilSignalled({ log, drainMs: parseDuration(flags.drain, "--drain") }, async (scope) => {
        await startAgent(config, { clock: systemClock, random: Math.random, log, metrics }, scope);
      });
    });
}

function parseRange(text: string): Cidr {
  const range = parseCidr(text);
  if (range) return range;
  throw new Failure("usage/address", `--captured: "${text}" is no range of addresses`, {
    hint: "write 240.0.0.0/4 or fd00::/8",
  });
}
