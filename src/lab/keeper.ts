import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { Failure, programFile } from "../base/index.ts";
import { canEnclose, toolEnv, unshareLine } from "./enclosure.ts";
import { ended } from "./run.ts";
import { commandLine, paths, readPid, removeFolder } from "./state-folder.ts";
import type { LabPlan } from "./supervisor.ts";
import type { LabProgress } from "./types.ts";

/** What a lab tells whoever started it. */
export type LabMessage =
  | { readonly kind: "progress"; readonly progress: LabProgress }
  | { readonly kind: "up" }
  | { readonly kind: "failed"; readonly code: string; readonly message: string; readonly hint?: string };

/**
 * A shell that outlives the lab by one command: it removes the folder. It starts the lab's process tree, writes down
 * who is who, and waits. `$1` is the folder, `$2` whether the tree is enclosed, the rest is the tree's command.
 */
const keeperScript = `
dir=$1; enclosed=$2; shift 2
echo $$ > "$dir/keeper.pid.part" && mv "$dir/keeper.pid.part" "$dir/keeper.pid"
"$@" &
tree=$!
echo $tree > "$dir/tree.pid"
trap 'kill -KILL $tree' TERM INT HUP
while kill -0 $tree 2>/dev/null; do wait $tree; done
rm -rf -- "$dir"
[ "$enclosed" = yes ] || kill -KILL 0
`;

/** The first process of the lab's tree: starts the supervisor, and takes in processes whose parents are gone. */
const initScript = '"$@" & wait $!';

export interface Keeper {
  readonly child: ChildProcess;
  /** From now on the lab does not end with this process. */
  release(): void;
  /** Ends the lab at once and resolves when nothing is left. */
  end(): Promise<void>;
}

/** Starts a lab in its folder. `onMessage` hears from it; `onEnd` when all of it is gone. */
export async function startKeeper(options: {
  readonly plan: LabPlan;
  readonly folder: string;
  readonly onMessage: (message: LabMessage) => void;
  readonly onEnd: () => void;
}): Promise<Keeper> {
  const { plan, folder } = options;
  const files = paths(folder);
  mkdirSync(files.logs, { recursive: true });
  writeFileSync(files.plan, JSON.stringify(plan, null, 2));
  const { mode } = plan.chosen;
  const enclosed = mode !== "explicit" || (await canEnclose());
  const supervisor = [process.execPath, programFile("lab", "supervisor-main.js"), folder];
  const tree = enclosed ? [...unshareLine(mode), "sh", "-c", initScript, "sh", ...supervisor] : supervisor;
  const out = openSync(files.supervisorLog, "a");
  const child = spawn("sh", ["-c", keeperScript, "isthmus-lab-keeper", folder, enclosed ? "yes" : "no", ...tree], {
    // A session of its own: Ctrl-C in the terminal is for whoever started the lab to pass on.
    detached: true,
    cwd: "/",
    env: { ...toolEnv(), ...(enclosed ? { ISTHMUS_LAB_ENCLOSED: "yes" } : {}) },
    stdio: ["ignore", out, out, "ipc"],
  });
  closeSync(out);
  child.on("message", (message) => options.onMessage(message as LabMessage));
  const gone = ended(child).then(() => removeFolder(folder));
  child.once("error", (cause) => {
    options.onMessage({ kind: "failed", code: "lab/keeper", message: `no shell could be started: ${cause.message}` });
  });
  void gone.then(options.onEnd);
  return {
    child,
    release: () => {
      child.send({ release: true }, () => child.disconnect());
      child.unref();
    },
    end: async () => {
      if (child.connected) child.disconnect();
      await endTree(folder);
      await gone;
    },
  };
}

/** Kills the tree of a lab, whatever state it is in; its keeper then removes the folder. */
export async function endTree(folder: string): Promise<void> {
  const tree = readPid(paths(folder).tree);
  const keeper = readPid(paths(folder).keeper);
  const target = tree ?? keeper;
  // The number may be another process's by now.
  if (target === undefined || !(await commandLine(target)).includes(folder)) return;
  try {
    process.kill(target, "SIGKILL");
  } catch (caught) {
    if ((caught as NodeJS.ErrnoException).code === "ESRCH") return; // It has ended by itself.
    throw new Failure("lab/not-yours", `the lab in "${folder}" belongs to another user`, { cause: caught });
  }
}
