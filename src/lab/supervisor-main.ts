// The process in which a lab lives: `supervisor-main.js FOLDER`. Started by the keeper inside the lab's own namespaces.
import { createLogger, explain, Failure, Scope, systemClock } from "../base/index.ts";
import type { LabMessage } from "./keeper.ts";
import { commandLine, paths, readPid, removeFolder } from "./state-folder.ts";
import { readPlan, startLab } from "./supervisor.ts";

const folder = process.argv[2]!;
const plan = readPlan(folder);
const log = createLogger({ level: "info", name: "lab" });
const scope = new Scope();
let released = false;

function tell(message: LabMessage): void {
  // Whoever started the lab may have gone, which is no concern of a lab that is up.
  if (process.connected) process.send?.(message, undefined, {}, () => {});
}

/** The end of this process is the end of every process, namespace and rule of the lab: the kernel sees to that. */
function end(code: number): void {
  removeFolder(folder);
  // On loopback there may be no kernel's help: what is left is in this process's group.
  if (!process.env["ISTHMUS_LAB_ENCLOSED"]) endGroup();
  process.exit(code);
}

function endGroup(): void {
  try {
    process.kill(0, "SIGKILL");
  } catch {
    // Nobody else is in it.
  }
}

process.on("message", (message: { readonly release?: boolean }) => {
  if (message.release) released = true;
});
process.on("disconnect", () => {
  if (!released) end(1);
});
// Whoever started it may be gone before this line is reached.
if (!process.connected) end(1);
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => end(0));
process.on("uncaughtException", (err) => {
  log.error({ err }, "lab failed");
  tell({ kind: "failed", code: "lab/bug", message: explain(err) });
  end(1);
});

if (!process.env["ISTHMUS_LAB_ENCLOSED"]) {
  // Without a process tree of its own, nothing but looking tells that the keeper was killed.
  const watchKeeper = () => {
    const keeper = readPid(paths(folder).keeper);
    void (keeper === undefined ? Promise.resolve("") : commandLine(keeper)).then((line) => {
      if (!line.includes(folder)) end(1);
      else systemClock.after(2_000, watchKeeper, { background: true });
    });
  };
  watchKeeper();
}

startLab(
  {
    plan,
    folder,
    clock: systemClock,
    random: Math.random,
    log,
    onProgress: (progress) => tell({ kind: "progress", progress }),
    onDown: () => systemClock.after(20, () => end(0)),
  },
  scope,
).then(
  () => tell({ kind: "up" }),
  (caught) => {
    const { code, message, hint } = Failure.from(caught);
    log.error({ err: caught }, "lab did not come up");
    tell({ kind: "failed", code, message, ...(hint === undefined ? {} : { hint }) });
    systemClock.after(50, () => end(1));
  },
);
