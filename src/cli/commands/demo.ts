import { Command, Option } from "commander";
import { type DataPlane, dataPlanes, demo, type LabMode, labModes } from "../../lab/index.ts";
import { interruptible, ownCommand, progressLine } from "../progress.ts";

interface Flags {
  readonly once: boolean;
  readonly explicit?: boolean;
  readonly mode?: LabMode;
  readonly dataPlane: DataPlane;
  readonly name: string;
}

/** `isthmus demo`: two clusters from nothing to a call through both. */
export function demoCommand(done: (code: number) => void): Command {
  return new Command("demo")
    .description("bring up two clusters, call from one into the other, show every hop; stays up until Ctrl-C")
    .option("--once", "take everything down after the call; exit 0 when it worked, 1 when not", false)
    .option("--explicit", "loopback and explicit proxying, as where namespaces are not to be had (--mode explicit)")
    .addOption(new Option("--mode <mode>", "how pods are kept apart; chosen by itself when absent").choices(labModes))
    .addOption(new Option("--data-plane <which>", "what runs in the pods").choices(dataPlanes).default("embedded"))
    .option("--name <lab>", "name of the lab", "demo")
    .action(async (options: Flags) => {
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
          dataPlane: options.dataPlane,
          ...(mode ? { mode } : {}),
        });
        done(code);
      });
    });
}
