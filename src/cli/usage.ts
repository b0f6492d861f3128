import type { Command } from "commander";

/**
 * Makes a command, and all below it, say what is wrong with how it was called by throwing, so that one place decides the
 * exit code; and say all options that are missing at once, after what was misspelt: `--filenam` is told as such.
 */
export function strictUsage(command: Command, path = "isthmus"): Command {
  const own = `${path} ${command.name()}`;
  command.exitOverride().showSuggestionAfterError().showHelpAfterError(`(${own} --help lists what there is)`);
  const required = command.options.filter((option) => option.mandatory);
  for (const option of required) option.makeOptionMandatory(false);
  if (required.length > 0) {
    command.hook("preAction", (_command, called) => {
      const missing = required.filter((option) => called.getOptionValue(option.attributeName()) === undefined);
      if (missing.length === 0) return;
      const names = missing.map(({ flags }) => `'${flags}'`).join(", ");
      called.error(`error: required option${missing.length === 1 ? "" : "s"} ${names} not specified`, { exitCode: 64 });
    });
  }
  for (const inner of command.commands) strictUsage(inner, own);
  return command;
}
