import type { KubeObject } from "../../kube/index.ts";
import { isOurs, revisionLabel } from "./names.ts";

/** A webhook configuration, as far as it matters. */
export interface FoundWebhooks {
  readonly ours: boolean;
  readonly revision: string | undefined;
  readonly webhooks: ReadonlyArray<{
    readonly name: string;
    readonly bundle: string | undefined;
    readonly failurePolicy: string | undefined;
  }>;
}

export function readWebhooks({ metadata, ...object }: KubeObject): FoundWebhooks {
  const list = Array.isArray(object["webhooks"]) ? (object["webhooks"] as ReadonlyArray<Record<string, unknown>>) : [];
  const revision = (metadata["labels"] as Record<string, unknown> | undefined)?.[revisionLabel];
  return {
    ours: isOurs(metadata),
    revision: typeof revision === "string" ? revision : undefined,
    webhooks: list.map(({ name, clientConfig, failurePolicy }) => {
      const bundle = (clientConfig as Record<string, unknown> | undefined)?.["caBundle"];
      return {
        name: String(name),
        bundle: typeof bundle === "string" ? bundle : undefined,
        failurePolicy: typeof failurePolicy === "string" ? failurePolicy : undefined,
      };
    }),
  };
}

export type BundleStep =
  | { readonly kind: "none" }
  | { readonly kind: "foreign" }
  /** The fields that are ours to say, by webhook. */
  | { readonly kind: "apply"; readonly webhooks: readonly object[] }
  /** The bundle is in; whether the webhook answers is to be found out before the policy is raised. */
  | { readonly kind: "prove" };

/**
 * What to do about a webhook configuration. `raise`: its failure policy is to become Fail once it serves; `proven`: that
 * it serves has been seen.
 */
export function bundleStep(
  found: FoundWebhooks | undefined,
  wanted: { readonly bundle: string; readonly revision: string; readonly raise: boolean; readonly proven: boolean },
): BundleStep {
  if (!found || found.webhooks.length === 0) return { kind: "none" };
  const { bundle, revision, raise, proven } = wanted;
  if (!found.ours || (found.revision !== undefined && found.revision !== revision)) return { kind: "foreign" };
  const right = found.webhooks.every((one) => one.bundle === bundle);
  const raised = !raise || found.webhooks.every((one) => one.failurePolicy === "Fail");
  if (right && raised) return { kind: "none" };
  if (right && !proven) return { kind: "prove" };
  const webhooks = found.webhooks.map(({ name, failurePolicy }) => ({
    name,
    clientConfig: { caBundle: bundle },
    // Once said it is said again each time: a field that is left out of an apply falls back to its default.
    ...(raise && (failurePolicy === "Fail" || (right && proven)) ? { failurePolicy: "Fail" } : {}),
  }));
  return { kind: "apply", webhooks };
}
