import { codes } from "./codes.ts";
import { type DecodeContext, decodeResource } from "./decode.ts";
import type { Resource } from "./resource.ts";
import type { Path } from "./schema.ts";
import { formatPath, type Violation } from "./violation.ts";
import { documents, type Locate, type YamlLimits } from "./yaml.ts";

export interface ReadContext {
  readonly cluster: string;
  readonly file?: string;
  readonly defaultNamespace?: string;
  readonly limits?: YamlLimits;
}

/** What a text holds. */
export interface Reading {
  /** The good ones, in the order of the text. One key may stand twice: who keeps them together judges that. */
  readonly resources: readonly Resource[];
  readonly violations: readonly Violation[];
  /** Keys of objects that are there but wrong: what was known of them before still holds. */
  readonly wrong: readonly string[];
  /** False when some part could not even be recognised as an object: any object known before may be that part. */
  readonly complete: boolean;
  /** Objects of kinds that are not read. */
  readonly ignored: number;
}

/** All objects in a text of YAML or JSON: several documents, and `kind: List` in any of them. Never throws. */
export function readResources(text: string, context: ReadContext): Reading {
  const resources: Resource[] = [];
  const violations: Violation[] = [];
  const wrong: string[] = [];
  let complete = true;
  let ignored = 0;
  const { limits, ...rest } = context;
  const read = (object: unknown, locate: Locate, prefix: Path) => {
    const shifted: Locate = prefix.length === 0 ? locate : (path, at) => locate([...prefix, ...path], at);
    const decodeContext: DecodeContext = { ...rest, locate: shifted };
    const decoded = decodeResource(object, decodeContext);
    for (const violation of decoded.violations) {
      const path = prefix.length === 0 ? violation.path : joined(formatPath(prefix), violation.path);
      violations.push(path === violation.path ? violation : { ...violation, path });
    }
    if (decoded.outcome === "good") resources.push(decoded.resource);
    else if (decoded.outcome === "ignored") ignored++;
    else if (decoded.key !== undefined) wrong.push(decoded.key);
    else complete = false;
  };
  for (const { value, problems, locate } of documents(text, limits)) {
    for (const { path, line, column, code, message } of problems) {
      const file = context.file === undefined ? {} : { file: context.file };
      violations.push({ ...file, line, column, path: formatPath(path), message, code, severity: codes[code].severity });
    }
    if (problems.length > 0) complete = false;
    else for (const { item, path } of listed(value)) read(item, locate, path);
  }
  return { resources, violations, wrong, complete, ignored };
}

function joined(outer: string, inner: string): string {
  if (inner === "") return outer;
  return inner.startsWith("[") ? outer + inner : `${outer}.${inner}`;
}

/** The objects in a document: those of a `List`, and of lists in it, else the document itself. */
function listed(value: unknown, prefix: Path = []): ReadonlyArray<{ readonly item: unknown; readonly path: Path }> {
  const list = value as { kind?: unknown; items?: unknown } | null;
  const isList =
    typeof list === "object" && list !== null && typeof list.kind === "string" && list.kind.endsWith("List");
  if (!isList || !Array.isArray(list.items)) return [{ item: value, path: prefix }];
  return list.items.flatMap((item, index) => listed(item, [...prefix, "items", index]));
}
