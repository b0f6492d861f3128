import type { Finding } from "../../model/index.ts";
import type { Problem } from "../../sources/index.ts";
import type { Complaint } from "./conditions.ts";
import { keyOf, type Refusal } from "./refusals.ts";

/** What is wrong with objects of the API, by the object. What stands in files has no place there. */
export function complaintsOf(parts: {
  readonly problems: readonly Problem[];
  readonly findings: readonly Finding[];
  readonly refusals: readonly Refusal[];
}): ReadonlyMap<string, readonly Complaint[]> {
  const complaints = new Map<string, Complaint[]>();
  const add = (key: string | undefined, complaint: Complaint) => {
    if (key === undefined) return;
    const list = complaints.get(key);
    if (!list) complaints.set(key, [complaint]);
    else if (!list.some((one) => one.message === complaint.message)) list.push(complaint);
  };
  for (const { file, path, message, severity, code } of parts.problems) {
    // Of an object of the API its name stands where a file's would.
    add(file, { by: "read", severity, code, message: path ? `${path}: ${message}` : message });
  }
  for (const { origin, severity, code, message, hint } of parts.findings)
    add(keyOf(origin), { by: "mesh", severity, code, message: `${message} [${hint}]` });
  for (const { object, resource, proxy, reason } of parts.refusals) {
    const message = `proxy "${proxy}" refuses "${resource}": ${reason}`;
    add(object, { by: "proxy", severity: "error", code: "xds/refused", message });
  }
  return complaints;
}

/** Keys of which something else is said than before. */
export function changedComplaints(
  before: ReadonlyMap<string, readonly Complaint[]>,
  after: ReadonlyMap<string, readonly Complaint[]>,
): readonly string[] {
  const text = (list: readonly Complaint[] | undefined) => list?.map((one) => JSON.stringify(one)).join() ?? "";
  return [...new Set([...before.keys(), ...after.keys()])].filter(
    (key) => text(before.get(key)) !== text(after.get(key)),
  );
}
