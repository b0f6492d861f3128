import { isDeepStrictEqual } from "node:util";
import { customKinds, decodeResource, kinds, type Violation } from "../resources/index.ts";
import type { AdmissionAnswer, AdmissionRequest } from "./review.ts";

export type ValidateOutcome = "good" | "warned" | "denied" | "unread";

export interface ValidateAnswer {
  readonly answer: AdmissionAnswer;
  readonly outcome: ValidateOutcome;
  readonly why: string;
}

/**
 * What `isthmus validate` would say of an object that is about to be kept. Kinds that are not read are let in, as is what
 * is deleted. Kubernetes' own kinds are Kubernetes' to judge: what cannot be read of them is a warning.
 */
export function answerValidate(request: AdmissionRequest, { cluster }: { readonly cluster: string }): ValidateAnswer {
  const { operation, object, subResource, kind } = request;
  const good = (why: string): ValidateAnswer => ({ answer: { allowed: true }, outcome: "good", why });
  if (operation === "DELETE" || operation === "CONNECT" || subResource !== "") return good("nothing to judge");
  if (isGoing(object)) return good("it is being deleted");
  const decoded = decodeResource(asWritten(object, isCustom(kind)), {
    cluster,
    defaultNamespace: request.namespace || "default",
  });
  if (decoded.outcome === "ignored")
    return { answer: { allowed: true }, outcome: "unread", why: `${kind.kind} is not read` };
  const said = decoded.violations.map(({ severity, ...rest }) => ({ severity, line: wording(rest) }));
  const errors = said.filter(({ severity }) => severity === "error").map(({ line }) => line);
  const warnings = said.filter(({ severity }) => severity !== "error").map(({ line }) => line);
  if (errors.length === 0)
    return {
      answer: { allowed: true, warnings },
      outcome: warnings.length > 0 ? "warned" : "good",
      why: warnings.join("; "),
    };
  // What was there before us, or was let in by an older release, must still get its finalizers and labels.
  const unchanged = operation === "UPDATE" && sameMeaning(object, request.oldObject);
  if (unchanged || !isCustom(kind))
    return { answer: { allowed: true, warnings: [...errors, ...warnings] }, outcome: "warned", why: errors.join("; ") };
  const message = errors.join("; ");
  return { answer: { allowed: false, message, code: 422, warnings }, outcome: "denied", why: message };
}

/** As `isthmus validate` says it, without line and column, which an object in an API server has not. */
function wording({ path, message, code }: Pick<Violation, "path" | "message" | "code">): string {
  return `${path === "" ? "" : `${path}: `}${message} (${code})`;
}

function isCustom({ group, kind }: AdmissionRequest["kind"]): boolean {
  return customKinds.some((name) => name === kind && kinds[name].group === group);
}

interface Written {
  readonly metadata?: {
    readonly name?: unknown;
    readonly generateName?: unknown;
    readonly deletionTimestamp?: unknown;
    readonly annotations?: unknown;
  } | null;
}

/** As a person wrote it: without what the mesh said of it, and with a name where the API server will make one. */
function asWritten(object: unknown, custom: boolean): unknown {
  if (typeof object !== "object" || object === null || Array.isArray(object)) return object;
  const { status, ...rest } = object as Written & { readonly status?: unknown };
  const written = custom || status === undefined ? rest : object;
  const { metadata } = written as Written;
  if (typeof metadata?.generateName !== "string" || metadata.name) return written;
  const { generateName, ...named } = metadata;
  return { ...written, metadata: { ...named, name: `${generateName}x` } };
}

function isGoing(object: unknown): boolean {
  return typeof (object as Written | null | undefined)?.metadata?.deletionTimestamp === "string";
}

function sameMeaning(now: unknown, before: unknown): boolean {
  const meaning = (object: unknown) => {
    const { metadata, status: _status, ...rest } = (object ?? {}) as Written & { readonly status?: unknown };
    return { ...rest, annotations: metadata?.annotations ?? {} };
  };
  return before !== undefined && isDeepStrictEqual(meaning(now), meaning(before));
}
