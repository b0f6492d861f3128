import { z } from "zod";
import { isDnsLabel, parsed } from "../schema.ts";

/** Who may see an object: `.` its own namespace, `*` everybody, `~` nobody, or namespaces by name. Absent is everybody. */
export const exportTo = z
  .array(
    parsed('".", "*", "~" or the name of a namespace', "ISM0312", (to) =>
      to === "." || to === "*" || to === "~" || isDnsLabel(to) ? to : undefined,
    ),
  )
  .default(["*"]);
