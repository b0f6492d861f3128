import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { LineCounter, parseDocument } from "yaml";
import { type Scenario, scenarioSchema } from "./format.ts";

export interface NamedScenario extends Scenario {
  /** Path below `scenarios/`, without the ending. */
  readonly name: string;
  readonly area: string;
}

/** All scenarios below the folder but its cast, by name. Throws with every mistake of every file, each at its place. */
export function readScenarios(folder: string): readonly NamedScenario[] {
  const mistakes: string[] = [];
  const scenarios: NamedScenario[] = [];
  for (const file of scenarioFiles(folder)) {
    const read = readScenario(readFileSync(file, "utf8"), relative(folder, file));
    if ("mistakes" in read) mistakes.push(...read.mistakes);
    else scenarios.push(read.scenario);
  }
  const byTitle = new Map<string, string>();
  for (const { title, name } of scenarios) {
    const other = byTitle.get(title);
    if (other !== undefined) mistakes.push(`${name}.yaml: has the title of ${other}.yaml: "${title}"`);
    byTitle.set(title, name);
  }
  if (mistakes.length > 0) throw new Error(`scenarios cannot be read:\n${mistakes.join("\n")}`);
  return scenarios;
}

function scenarioFiles(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".yaml") && !path.startsWith("cast/"))
    .sort()
    .map((path) => join(folder, path));
}

/** One file's text to its scenario, or to all that is wrong with it: `file:line:column: path: what`. */
export function readScenario(
  text: string,
  file: string,
): { readonly scenario: NamedScenario } | { readonly mistakes: readonly string[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, strict: true });
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  if (document.errors.length > 0) {
    return { mistakes: document.errors.map(({ pos, message }) => `${at(pos[0])}: ${message.split("\n")[0]}`) };
  }
  const read = scenarioSchema.safeParse(document.toJS());
  if (!read.success) {
    // A step that is neither a call nor an event is judged as what it most looks like.
    const issues = read.error.issues.flatMap((issue) => flatten(issue));
    return {
      mistakes: issues.map(({ path, message }) => {
        const node = nearest(document, path);
        return `${at(node)}: ${path.join(".")}: ${message}`;
      }),
    };
  }
  const name = file.replace(/\.yaml$/, "");
  const scenario: NamedScenario = { ...read.data, name, area: name.split("/")[0]! };
  const mistakes = contradictions(scenario).map((message) => `${file}:1:1: ${message}`);
  return mistakes.length > 0 ? { mistakes } : { scenario };
}

interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly errors?: readonly (readonly Issue[])[];
}

function flatten(issue: unknown, before: readonly PropertyKey[] = []): readonly { path: string[]; message: string }[] {
  const { path, message, errors } = issue as Issue;
  const whole = [...before, ...path];
  const best = errors?.filter((branch) => branch.length > 0).sort((a, b) => a.length - b.length)[0];
  if (best) return best.flatMap((inner) => flatten(inner, whole));
  return [{ path: whole.map(String), message }];
}

/** Where in the text the path is, or the nearest above it that is there. */
function nearest(document: ReturnType<typeof parseDocument>, path: readonly string[]): number {
  for (let length = path.length; length >= 0; length--) {
    const node = document.getIn(
      path.slice(0, length).map((part) => (/^\d+$/.test(part) ? Number(part) : part)),
      true,
    );
    const range = (node as { range?: readonly number[] } | undefined)?.range;
    if (range) return range[0]!;
  }
  return 0;
}

/** What the shape alone does not forbid. */
function contradictions(scenario: Scenario): readonly string[] {
  const wrong: string[] = [];
  if (scenario.refused && (scenario.steps.length > 0 || Object.keys(scenario.clusters).length > 0))
    wrong.push("a scenario of objects that are refused applies nothing else and calls nobody");
  if (!scenario.refused && !scenario.steps.some((step) => "expect" in step)) wrong.push("calls nobody");
  scenario.steps.forEach((step, index) => {
    if (!("expect" in step)) return;
    const kinds = (["http", "tcp", "grpc", "websocket", "dns"] as const).filter((kind) => step[kind] !== undefined);
    const where = `step ${index + 1}`;
    if (kinds.length !== 1) wrong.push(`${where} must make one kind of call, and makes ${kinds.length}`);
    if (Object.keys(step.expect).length === 0) wrong.push(`${where} expects nothing`);
    if (step.times === 1 && (step.expect.share || step.expect.distinct))
      wrong.push(`${where} wants a share of one call; say how many times it is made`);
  });
  return wrong;
}
