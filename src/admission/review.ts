import { shown } from "./shape.ts";

/** What the API server asks (AdmissionReview, v1 and v1beta1 alike). */
export interface AdmissionRequest {
  readonly apiVersion: "admission.k8s.io/v1" | "admission.k8s.io/v1beta1";
  readonly uid: string;
  readonly operation: "CREATE" | "UPDATE" | "DELETE" | "CONNECT";
  readonly kind: { readonly group: string; readonly version: string; readonly kind: string };
  readonly namespace: string;
  /** Of the object; empty where the server has still to make one. */
  readonly name: string;
  readonly subResource: string;
  readonly object: unknown;
  readonly oldObject: unknown;
}

/** What is answered. A refusal has a status code: 403 is Kubernetes' own for what admission does not let in. */
export type AdmissionAnswer =
  | { readonly allowed: true; readonly patch?: readonly object[]; readonly warnings?: readonly string[] }
  | { readonly allowed: false; readonly message: string; readonly code: number; readonly warnings?: readonly string[] };

export type ReviewReading =
  | { readonly outcome: "good"; readonly request: AdmissionRequest }
  | { readonly outcome: "wrong"; readonly problem: string };

const versions = ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"] as const;
const operations = ["CREATE", "UPDATE", "DELETE", "CONNECT"] as const;

/** A body to what it asks, or why it asks nothing. Never throws. */
export function readReview(body: string): ReviewReading {
  const wrong = (problem: string): ReviewReading => ({ outcome: "wrong", problem });
  let review: unknown;
  try {
    review = JSON.parse(body);
  } catch (caught) {
    return wrong(`not JSON: ${(caught as Error).message.slice(0, 200)}`);
  }
  if (!isObject(review)) return wrong("not an AdmissionReview: no JSON object");
  const { apiVersion, kind, request } = review;
  const version = versions.find((one) => one === apiVersion);
  if (kind !== "AdmissionReview" || version === undefined)
    return wrong(`not an AdmissionReview of ${versions.join(" or ")}: got kind ${shown(kind)} of ${shown(apiVersion)}`);
  if (!isObject(request)) return wrong("the AdmissionReview has no request");
  const { uid, operation, kind: of, namespace, name, subResource, object, oldObject } = request;
  if (typeof uid !== "string" || uid === "") return wrong("the request has no uid");
  const what = operations.find((one) => one === operation);
  if (what === undefined)
    return wrong(`the request's operation is ${shown(operation)}; there is ${operations.join(", ")}`);
  const { group = "", version: objectVersion = "", kind: objectKind } = isObject(of) ? of : {};
  if (typeof objectKind !== "string" || typeof group !== "string" || typeof objectVersion !== "string")
    return wrong("the request's kind must be an object of group, version and kind");
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  return {
    outcome: "good",
    request: {
      apiVersion: version,
      uid,
      operation: what,
      kind: { group, version: objectVersion, kind: objectKind },
      namespace: text(namespace),
      name: text(name),
      subResource: text(subResource),
      object: object ?? undefined,
      oldObject: oldObject ?? undefined,
    },
  };
}

/** The longest warning that an API server passes on, and how many bytes of them together. */
const warningLimits = { each: 250, together: 4000 };

/** An answer as the API server reads it. */
export function writeReview(
  { apiVersion, uid }: Pick<AdmissionRequest, "apiVersion" | "uid">,
  answer: AdmissionAnswer,
): string {
  const warnings = fitting(answer.warnings ?? []);
  return JSON.stringify({
    apiVersion,
    kind: "AdmissionReview",
    response: {
      uid,
      allowed: answer.allowed,
      ...(answer.allowed ? patchOf(answer.patch) : { status: statusOf(answer) }),
      ...(warnings.length === 0 ? {} : { warnings }),
    },
  });
}

function patchOf(patch: readonly object[] = []): object {
  if (patch.length === 0) return {};
  return { patchType: "JSONPatch", patch: Buffer.from(JSON.stringify(patch)).toString("base64") };
}

function statusOf({ message, code }: { readonly message: string; readonly code: number }): object {
  return { code, message, reason: code === 403 ? "Forbidden" : code === 422 ? "Invalid" : "BadRequest" };
}

function fitting(warnings: readonly string[]): readonly string[] {
  const kept: string[] = [];
  let left = warningLimits.together;
  for (const warning of warnings) {
    // What a header carries has no line of its own.
    const line = warning.replaceAll(/\s+/g, " ");
    const cut = line.length > warningLimits.each ? `${line.slice(0, warningLimits.each - 1)}…` : line;
    left -= cut.length;
    if (left < 0) break;
    kept.push(cut);
  }
  return kept;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
