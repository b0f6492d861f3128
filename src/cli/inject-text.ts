import { type InjectionSettings, injectTemplate, mapObjects, type ServerVersion } from "../admission/index.ts";
import { codes, documents, formatPath, formatViolation, writeManifest } from "../resources/index.ts";

/** What is known of where the pods will run, and to whom something is said. */
export interface Injecting {
  readonly settings: InjectionSettings;
  readonly serverVersion: ServerVersion | undefined;
  readonly namespace: string;
  readonly problem: (line: string) => void;
  readonly warning: (line: string) => void;
}

/** A text with its pods injected, in its own form. Documents in which nothing changes stay letter by letter. */
export function injectText(text: string, injecting: Injecting): string {
  const json = parseJson(text);
  if (json !== undefined) return `${JSON.stringify(injectValue(json.value, injecting), null, 2)}\n`;
  // YAML 1.2 §9.1.2: a line that starts so begins a document, whatever was open before.
  return text
    .split(/^(?=---(?:[ \t\r\n]|$))/m)
    .map((chunk) => {
      const read = [...documents(chunk)];
      for (const { problems } of read)
        for (const { path, line, column, code, message } of problems)
          injecting.problem(
            formatViolation({ path: formatPath(path), line, column, code, message, severity: codes[code].severity }),
          );
      const changed = read.map(({ value }) => injectValue(value, injecting));
      if (changed.every((value, index) => value === read[index]!.value)) return chunk;
      return `${chunk.startsWith("---") ? "---\n" : ""}${writeManifest(changed as object[])}`;
    })
    .join("");
}

function parseJson(text: string): { readonly value: unknown } | undefined {
  if (!/^\s*[{[]/.test(text)) return undefined;
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

/** The very same value when nothing of it changes. */
function injectValue(value: unknown, { settings, serverVersion, namespace, problem, warning }: Injecting): unknown {
  let changed = false;
  const result = mapObjects(value, (object) => {
    const injection = injectTemplate(object, settings, { serverVersion, namespace });
    if (injection.outcome === "refused") {
      for (const one of injection.problems) problem(`${injection.what}: ${one}`);
      return object;
    }
    for (const one of injection.warnings) warning(`${injection.what}: ${one}`);
    if (injection.outcome === "as-is") return object;
    changed = true;
    return injection.object;
  });
  return changed ? result : value;
}

/** Several texts as one of documents. */
export function joinTexts(texts: readonly string[]): string {
  return texts
    .map((text, index) => (index === 0 || text.startsWith("---") ? text : `---\n${text}`))
    .map((text) => (text === "" || text.endsWith("\n") ? text : `${text}\n`))
    .join("");
}
