import { readFile } from "node:fs/promises";
import { Cell, type Clock, Failure, type Logger, type Scope, type Timer } from "../base/index.ts";
import { readInjectionSettings } from "./read-settings.ts";
import type { InjectionSettings } from "./settings.ts";

/** How soon a file that was written over counts. Mounted files change by renames, which no watch tells of surely. */
const lookMs = 5_000;

/**
 * The settings from their file, and what is written there later; a file that is gone or wrong is said once and changes
 * nothing. Throws `injection/settings` when there are none at the start.
 */
export async function startSettingsFile(
  file: string,
  deps: { readonly clock: Clock; readonly log: Logger },
  scope: Scope,
): Promise<Cell<InjectionSettings>> {
  const { clock, log } = deps;
  const first = await readText(file);
  const cell = new Cell(settingsOf(first, file));
  let [text, said]: [string, string | undefined] = [first, undefined];
  let timer: Timer | undefined;
  const look = async () => {
    try {
      const now = await readText(file);
      if (now !== text) {
        cell.set(settingsOf(now, file));
        text = now;
        log.info({ file }, "the settings of injection were changed");
      }
      said = undefined;
    } catch (caught) {
      const failure = Failure.from(caught);
      if (failure.message !== said) log.warn({ err: failure }, "going on with the settings that were read last");
      said = failure.message;
    }
    plan();
  };
  const plan = () => {
    if (!scope.closed) timer = clock.after(lookMs, () => void look(), { background: true });
  };
  scope.defer(() => timer?.cancel());
  plan();
  return cell;
}

/** Throws `injection/settings` that says all that is wrong. `where` names the text. */
export function settingsOf(text: string, where: string): InjectionSettings {
  const reading = readInjectionSettings(text);
  if (reading.outcome === "good") return reading.settings;
  const problems = reading.problems.map((problem) => `\n  ${problem}`).join("");
  throw new Failure("injection/settings", `the settings of injection in "${where}" are wrong:${problems}`, {
    hint: "isthmus install writes them; mend what is named",
  });
}

async function readText(file: string): Promise<string> {
  return await readFile(file, "utf8").catch((cause: Error) => {
    throw new Failure("injection/settings", `cannot read the settings of injection "${file}": ${cause.message}`, {
      cause,
      hint: "it is the injection.json of the ConfigMap isthmus-injection",
    });
  });
}
