import { readFileSync, statSync } from "node:fs";
import { Command, Option } from "commander";
import { Failure } from "../../base/index.ts";
import { formatViolation, readResources, type Violation } from "../../resources/index.ts";
import { listFiles } from "../../sources/index.ts";
import { exitCodes, printLine } from "../output.ts";

/** `isthmus validate`: everything that is wrong with files, each thing at its place and with its mend. */
export function validateCommand(done: (code: number) => void): Command {
  return new Command("validate")
    .description("say everything that is wrong with manifests; exit 0 good, 1 wrong, 2 could not look")
    .requiredOption("-f, --filename <file...>", "files or folders; - is standard input")
    .option("-n, --namespace <namespace>", "for objects that name none", "default")
    .addOption(new Option("-o, --output <format>", "how to say it").choices(["text", "json"]).default("text"))
    .action(async (options: { filename: string[]; namespace: string; output: "text" | "json" }) => {
      const texts = (await Promise.all(options.filename.map(textsOf))).flat();
      const readings = texts.map(({ file, text }) =>
        readResources(text, { file, cluster: "", defaultNamespace: options.namespace }),
      );
      const violations = readings.flatMap((reading) => reading.violations);
      const errors = violations.filter(({ severity }) => severity === "error").length;
      const objects = readings.reduce((sum, reading) => sum + reading.resources.length, 0);
      const ignored = readings.reduce((sum, reading) => sum + reading.ignored, 0);
      if (options.output === "json") {
        printLine(JSON.stringify({ valid: errors === 0, files: texts.length, objects, ignored, violations }, null, 2));
      } else {
        printText({ violations, errors, objects, ignored, files: texts.length });
      }
      done(errors === 0 ? exitCodes.good : exitCodes.wrong);
    });
}

function printText(result: {
  readonly violations: readonly Violation[];
  readonly errors: number;
  readonly objects: number;
  readonly ignored: number;
  readonly files: number;
}): void {
  const { violations, errors, objects, ignored, files } = result;
  for (const violation of violations) printLine(formatViolation(violation));
  const warnings = violations.length - errors;
  const counts = [
    `${objects} good object${objects === 1 ? "" : "s"} in ${files} file${files === 1 ? "" : "s"}`,
    ...(errors > 0 ? [`${errors} error${errors === 1 ? "" : "s"}`] : []),
    ...(warnings > 0 ? [`${warnings} warning${warnings === 1 ? "" : "s"}`] : []),
    ...(ignored > 0 ? [`${ignored} of kinds that are not read`] : []),
  ];
  printLine(counts.join(", "));
}

/** The texts behind one argument. Throws `input/file` for what cannot be read: that is no verdict on its content. */
async function textsOf(argument: string): Promise<ReadonlyArray<{ readonly file: string; readonly text: string }>> {
  if (argument === "-") {
    const chunks: Buffer[] = [];
    for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
    return [{ file: "-", text: Buffer.concat(chunks).toString("utf8") }];
  }
  try {
    const unreadable = (path: string, cause: unknown) => {
      throw new Error(`${path}: ${(cause as Error).message}`);
    };
    const files = statSync(argument).isDirectory() ? await listFiles(argument, unreadable) : [argument];
    return files.map((file) => ({ file, text: readFileSync(file, "utf8") }));
  } catch (cause) {
    throw new Failure("file/unreadable", `cannot read "${argument}": ${(cause as Error).message}`, { cause });
  }
}
