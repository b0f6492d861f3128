import { z } from "zod";
import { isDnsLabel, parsed, type Report, repeats } from "../schema.ts";

/** Who may see an object: `.` its own namespace, `*` everybody, `~` nobody, or namespaces by name. Absent is everybody. */
export const exportTo = z
  .array(
    parsed('".", "*", "~" or the name of a namespace', "ISM0312", (to) =>
      to === "." || to === "*" || to === "~" || isDnsLabel(to) ? to : undefined,
    ),
  )
  .default(["*"]);

/** `*` and `~` stand alone, nothing stands twice, and only what can be hidden from everybody takes `~`. */
export function judgeExportTo(to: readonly string[], report: Report, options: { readonly nobody: boolean }): void {
  for (const [index, namespace] of to.entries()) {
    if (namespace === "~" && !options.nobody)
      report(["exportTo", index], "ISM0312", '"~" is for ServiceEntries only; delete the object instead');
    else if ((namespace === "*" || namespace === "~") && to.length > 1)
      report(["exportTo", index], "ISM0312", `"${namespace}" must stand alone; remove the other entries`);
  }
  for (const { index } of repeats(to, (namespace) => namespace))
    report(["exportTo", index], "ISM0312", `"${to[index]}" stands here twice; remove one`);
}
