import { readFileSync, statSync } from "node:fs";
import { Command, Option } from "commander";
import { Failure } from "../../base/index.ts";
import { formatViolation, type Violation, validateFiles } from "../../resources/index.ts";
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
      const { violations, counts } = validateFiles(texts, { defaultNamespace: options.namespace });
      if (options.output === "json")
        printLine(JSON.stringify({ valid: counts.errors === 0, counts, violations }, null, 2));
      else printText(violations, counts);
      done(counts.errors === 0 ? exitCodes.good : exitCodes.wrong);
    });
}

type Counts = ReturnType<typeof validateFiles>["counts"];

function printText(violations: readonly Violation[], counts: Counts): void {
  for (const violation of violations) printLine(formatViolation(violation));
  const many = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;
  const said = [
    `${many(counts.resources, "good object")} in ${many(counts.files, "file")}`,
    ...(counts.errors > 0 ? [many(counts.errors, "error")] : []),
    ...(counts.warnings > 0 ? [many(counts.warnings, "warning")] : []),
    ...(counts.ignored > 0 ? [`${counts.ignored} of kinds that are not read`] : []),
  ];
  printLine(said.join(", "));
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
