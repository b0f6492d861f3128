/** What is wrong with one object, from whoever found it. */
export interface Complaint {
  /** `read`: it cannot be understood; `mesh`: it does not fit what else there is; `proxy`: a proxy would not take it. */
  readonly by: "read" | "mesh" | "proxy";
  readonly severity: "error" | "warning";
  readonly code: string;
  readonly message: string;
}

/** As Kubernetes writes conditions (metav1.Condition). */
export interface Condition {
  readonly type: string;
  readonly status: "True" | "False";
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration?: number;
  readonly lastTransitionTime: string;
}

/**
 * The types that we write, as Gateway API has made them known. `Accepted`: the object is sound and stands in the mesh as
 * it is written. `Programmed`: what is made of it has been told, and no proxy refuses it.
 */
export const ourConditions: readonly string[] = ["Accepted", "Programmed"];

type Verdict = Pick<Condition, "type" | "status" | "reason" | "message">;

/** Messages shown in one condition, and characters; the rest is counted. */
const mostMessages = 5;
const longestMessage = 2_000;

/** What an object's conditions should say. No complaint means that it is in good order. */
export function verdictsOf(complaints: readonly Complaint[]): readonly Verdict[] {
  const refused = complaints.filter(({ by }) => by === "proxy");
  const unread = complaints.filter(({ by, severity }) => by === "read" && severity === "error");
  const unfit = complaints.filter(({ by, severity }) => by === "mesh" && severity === "error");
  const warnings = complaints.filter(({ by, severity }) => by !== "proxy" && severity === "warning");
  const accepted: Verdict =
    unread.length > 0
      ? { type: "Accepted", status: "False", reason: "Invalid", message: textOf(unread) }
      : unfit.length > 0
        ? { type: "Accepted", status: "False", reason: reasonOf(unfit[0]!), message: textOf(unfit) }
        : warnings.length > 0
          ? { type: "Accepted", status: "True", reason: "AcceptedWithWarnings", message: textOf(warnings) }
          : { type: "Accepted", status: "True", reason: "Accepted", message: "" };
  const programmed: Verdict =
    refused.length > 0
      ? { type: "Programmed", status: "False", reason: "RefusedByProxy", message: textOf(refused) }
      : unread.length > 0
        ? {
            type: "Programmed",
            status: "False",
            reason: "Invalid",
            message: "what was last accepted of it stays in force",
          }
        : { type: "Programmed", status: "True", reason: "Programmed", message: "" };
  return [accepted, programmed];
}

function textOf(complaints: readonly Complaint[]): string {
  const lines = complaints.slice(0, mostMessages).map(({ message, code }) => `${message} (${code})`);
  const more = complaints.length - lines.length;
  const text = [...lines, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
  return text.length <= longestMessage ? text : `${text.slice(0, longestMessage - 1)}…`;
}

/** `mesh/address-conflict` → `AddressConflict`: a reason is one word in camel case. */
function reasonOf({ code }: Complaint): string {
  const words = code
    .split("/")
    .pop()!
    .split(/[^A-Za-z0-9]+/);
  return words.map((word) => word.slice(0, 1).toUpperCase() + word.slice(1)).join("");
}

/** Conditions as an object has them now, whoever wrote them. */
export type WrittenConditions = ReadonlyArray<Readonly<Record<string, unknown>>>;

/**
 * The whole list to write: ours made right, those of others as they are. Undefined when ours say already what they
 * should, of this generation.
 */
export function nextConditions(
  written: WrittenConditions,
  wanted: { readonly verdicts: readonly Verdict[]; readonly generation: number | undefined; readonly wallMs: number },
): WrittenConditions | undefined {
  const { verdicts, generation, wallMs } = wanted;
  const now = new Date(wallMs).toISOString().replace(/\.\d+Z$/, "Z");
  const ours = verdicts.map((verdict): Condition => {
    const before = written.find(({ type }) => type === verdict.type);
    const since = before?.["status"] === verdict.status ? before["lastTransitionTime"] : undefined;
    return {
      ...verdict,
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      lastTransitionTime: typeof since === "string" ? since : now,
    };
  });
  const right = ours.every((one) => {
    const before = written.find(({ type }) => type === one.type);
    return (
      before !== undefined &&
      before["status"] === one.status &&
      before["reason"] === one.reason &&
      (before["message"] ?? "") === one.message &&
      Object.is(Number(before["observedGeneration"] ?? -1), one.observedGeneration ?? -1)
    );
  });
  if (right) return undefined;
  const others = written.filter(({ type }) => !verdicts.some((verdict) => verdict.type === type));
  return [...others, ...ours.map((one) => ({ ...one }))];
}
