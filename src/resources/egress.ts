import type { Labels } from "../values/index.ts";
import { isDnsLabel, quoted, type Report } from "./schema.ts";

/**
 * Asks that calls to other clusters leave by an egress gateway. On a ServiceEntry it is for that entry, on a Namespace
 * for the entries of the namespace, on the mesh's own namespace for all; the nearest one counts.
 */
export const egressAnnotation = "networking.isthmus.dev/egress-gateway";

/** By the mesh's own egress gateway, by a Service that is named (of the object's own namespace if it names none), or not. */
export type EgressWish =
  | { readonly by: "own" }
  | { readonly by: "named"; readonly name: string; readonly namespace: string | undefined }
  | { readonly by: "none" };

/** What the annotation of an object says; undefined when it stands there in a form that means nothing, or not at all. */
export function egressWish(annotations: Labels): EgressWish | undefined {
  const text = Object.hasOwn(annotations, egressAnnotation) ? annotations[egressAnnotation]!.trim() : undefined;
  if (text === undefined) return undefined;
  if (text === "true") return { by: "own" };
  if (text === "false") return { by: "none" };
  const [name, namespace, ...rest] = text.split(".");
  if (!isDnsLabel(name!) || (namespace !== undefined && !isDnsLabel(namespace))) return undefined;
  if (rest.length > 0 && rest[0] !== "svc") return undefined;
  return { by: "named", name: name!, namespace };
}

interface Annotated {
  readonly metadata: { readonly annotations: Labels };
  readonly spec?: unknown;
}

/** What is wrong with the annotation of a Namespace. */
export function adviseEgress({ metadata }: Annotated, report: Report): void {
  if (!Object.hasOwn(metadata.annotations, egressAnnotation) || egressWish(metadata.annotations)) return;
  report(
    ["metadata", "annotations", egressAnnotation],
    "ISM0430",
    `must be "true", "false", or the <name> or <name>.<namespace> of an egress gateway's Service, got ${quoted(metadata.annotations[egressAnnotation])}`,
  );
}

/** The same for a ServiceEntry, which must be one whose calls an egress gateway can pass on. */
export function adviseEntryEgress(entry: Annotated, report: Report): void {
  adviseEgress(entry, report);
  const wish = egressWish(entry.metadata.annotations);
  if (wish === undefined || wish.by === "none") return;
  const { hosts, location, resolution } = entry.spec as {
    readonly hosts: readonly string[];
    readonly location: string;
    readonly resolution: string;
  };
  const stranger = hosts.find((host) => !host.endsWith(".global"));
  const why =
    location !== "MESH_INTERNAL"
      ? 'the entry is not "location: MESH_INTERNAL"'
      : resolution === "NONE"
        ? "the entry has resolution NONE, so its callers choose where they go"
        : stranger === undefined
          ? undefined
          : `"${stranger}" is no .global host`;
  if (why === undefined) return;
  report(
    ["metadata", "annotations", egressAnnotation],
    "ISM0431",
    `asks for an egress gateway, which passes on mutual TLS to other clusters only, and ${why}; remove it, or declare a .global host with MESH_INTERNAL`,
  );
}
