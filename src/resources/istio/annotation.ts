import type { z } from "zod";
import type { Labels } from "../../values/index.ts";
import { type Path, quoted, type Report } from "../schema.ts";
import { wordIssue } from "../wording.ts";
import { documents } from "../yaml.ts";

/** What is written in one annotation: judged when its object is read, and read again by whoever needs the value. */
export interface AnnotationReader<T> {
  judge(annotations: Labels, report: Report): void;
  /** Undefined where the annotation is absent. Of an object that was read, it is good. */
  read(annotations: Labels): T | undefined;
}

/** An annotation whose text is YAML of a shape. What is wrong inside is said at its place below the annotation. */
export function yamlAnnotation<S extends z.ZodType>(name: string, schema: S): AnnotationReader<z.output<S>> {
  const run = (written: unknown) => schema._zod.run({ value: written, issues: [] }, {}) as z.core.ParsePayload;
  return {
    judge(annotations, report) {
      const written = annotations[name];
      if (written === undefined) return;
      const at: Path = ["metadata", "annotations", name];
      const [document, ...more] = [...documents(written)];
      const problem = document?.problems[0];
      if (problem) return report(at, problem.code, `is not YAML: ${problem.message}`);
      if (!document || more.length > 0) return report(at, "ISM0303", "must be one object, written as YAML");
      for (const issue of run(document.value).issues)
        for (const { path, code, message } of wordIssue(issue, document.value)) report([...at, ...path], code, message);
    },
    read(annotations) {
      const written = annotations[name];
      if (written === undefined) return undefined;
      const [document] = [...documents(written)];
      return run(document?.value).value as z.output<S>;
    },
  };
}

/** An annotation that is one of a few words. */
export function wordAnnotation<W extends string>(name: string, words: readonly W[]): AnnotationReader<W> {
  return {
    judge(annotations, report) {
      const written = annotations[name];
      if (written !== undefined && !(words as readonly string[]).includes(written))
        report(
          ["metadata", "annotations", name],
          "ISM0304",
          `must be one of ${words.join(", ")}, got ${quoted(written)}`,
        );
    },
    read: (annotations) => annotations[name] as W | undefined,
  };
}
