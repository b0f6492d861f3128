import type { HeaderValueOption } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { HeaderValueOption_HeaderAppendAction as AppendAction } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import type { Place } from "./reading.ts";
import type { HeaderChange, HeaderChanges } from "./route.ts";

// What the codec writes itself, and what would let a table write a second message into the first.
const ours = new Set(["content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer"]);

/** What is removed from and added to a head, in that order. Refuses what would change how a message is framed. */
export function headerChanges(
  add: readonly HeaderValueOption[],
  remove: readonly string[],
  place: Place,
  which: "request" | "response",
): HeaderChanges {
  const changes: HeaderChange[] = remove.map((name) => ({ kind: "remove", name: name.toLowerCase() }));
  for (const [index, option] of add.entries()) {
    const at = place.field(`${which}_headers_to_add`).item(index).field("header");
    const name = option.header?.key.toLowerCase() ?? "";
    const value = option.header?.value ?? "";
    if (!/^:authority$|^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name) || ours.has(name)) {
      at.field("key").refuse(`"${name}" cannot be set`);
      continue;
    }
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the very characters that a value may not hold.
    if (/[\u0000-\u0008\u000a-\u001f\u007f]/.test(value)) {
      at.field("value").refuse("has control characters");
      continue;
    }
    if (value === "" && !option.keepEmptyValue) continue;
    const append = option.append;
    const kind =
      append !== undefined
        ? append
          ? "append"
          : "overwrite"
        : (
            {
              [AppendAction.APPEND_IF_EXISTS_OR_ADD]: "append",
              [AppendAction.ADD_IF_ABSENT]: "add-if-absent",
              [AppendAction.OVERWRITE_IF_EXISTS_OR_ADD]: "overwrite",
              [AppendAction.OVERWRITE_IF_EXISTS]: "overwrite-if-exists",
            } as const
          )[option.appendAction];
    // Fields are bytes, and here a character is one.
    const bytes = Buffer.from(value, "utf8").toString("latin1");
    changes.push({ kind, name: name === ":authority" ? "host" : name, value: bytes });
  }
  return changes;
}
