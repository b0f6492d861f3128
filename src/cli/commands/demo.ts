import { Command, Option } from "commander";
import { demo, type LabMode, labModes } from "../../lab/index.ts";
import { interruptible, ownCommand, progressLine } from "../progress.ts";

/** `isthmus demo`: two clusters from nothing to a call through both. */
export function demoCommand(done: (code: number) => void): Command {
  return new Command("demo")
    .description("bring up two clusters, call from one into the other, show every hop; stays up until Ctrl-C")
    .option("--once", "take everything down after the call; exit 0 when it worked, 1 when not", false)
    .option("--explicit", "loopback and explicit proxying, as where namespaces are not to be had (--mode explicit)")
    .addOption(new Option("--mode <mode>", "how pods are kept apart; chosen by itself when absent").choices(labModes))
    .option("--name <lab>", "name of the lab", "demo")
    .action(async (options: { once: boolean; explicit?: boolean; mode?: LabMode; name: string }) => {
      const mode = options.explicit ? "explicit" : options.mode;
      const progress = progressLine();
      await interruptible(async (signal) => {
        const code = await demo({
          once: options.once,
          name: options.name,
          signal,
          write: progress.write,
          waiting: progress.waiting,
          command: ownCommand(),
          ...(mode ? { mode } : {}),
        });
        done(code);
      });
    });
}
