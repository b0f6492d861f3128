import { Command, Option } from "commander";
import { formatViolation, type Validation, type Violation, validateFiles } from "../../resources/index.ts";
import { readManifests } from "../manifest-texts.ts";
import { exitCodes, printFailure, printLine } from "../output.ts";

/** `isthmus validate`: everything that is wrong with files, each thing at its place and with its mend. */
export function validateCommand(done: (code: number) => void): Command {
  return new Command("validate")
    .description("say everything that is wrong with manifests; exit 0 good, 1 wrong, 2 could not look")
    .requiredOption("-f, --filename <file...>", "files or folders; - is standard input")
    .option("-n, --namespace <namespace>", "for objects that name none", "default")
    .addOption(new Option("-o, --output <format>", "how to say it").choices(["text", "json"]).default("text"))
    .action(async (options: { filename: string[]; namespace: string; output: "text" | "json" }) => {
      const { texts, violations: ofFiles, unreadable } = await readManifests(options.filename);
      const { violations: ofTexts, counts: counted } = validateFiles(texts, { defaultNamespace: options.namespace });
      const violations = [...ofFiles, ...ofTexts];
      const counts = {
        ...counted,
        files: counted.files + ofFiles.length,
        errors: counted.errors + ofFiles.filter(({ severity }) => severity === "error").length,
      };
      const valid = counts.errors === 0 && unreadable.length === 0;
      if (options.output === "json") {
        const unread = unreadable.map(({ code, message }) => ({ code, message }));
        printLine(JSON.stringify({ valid, counts, violations, unreadable: unread }, null, 2));
      } else {
        printText(violations, counts);
        for (const failure of unreadable) printFailure(failure);
      }
      // What was not looked at could be wrong in any way, which is less than a verdict.
      done(valid ? exitCodes.good : unreadable.length > 0 ? exitCodes.failed : exitCodes.wrong);
    });
}

function printText(violations: readonly Violation[], counts: Validation["counts"]): void {
  for (const violation of violations) printLine(formatViolation(violation));
  if (counts.files === 0) return;
  const many = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;
  const said = [
    `${many(counts.resources, "good object")} in ${many(counts.files, "file")}`,
    ...(counts.errors > 0 ? [many(counts.errors, "error")] : []),
    ...(counts.warnings > 0 ? [many(counts.warnings, "warning")] : []),
    ...(counts.ignored > 0 ? [`${counts.ignored} of kinds that are not read`] : []),
  ];
  printLine(said.join(", "));
}
