import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import { plainObjects } from "../../resources/index.ts";
import { componentLabel, isOurs, ownLabels, revisionLabel, revisionNames } from "../names.ts";
import { overlay } from "../settings/field.ts";
import { profileSettings } from "../settings/profiles.ts";
import { profileNames, type Settings } from "../settings/settings.ts";

/** One revision that is installed, as its record says. */
export interface Installed {
  readonly revision: string;
  readonly namespace: string;
  /** Whether label `istio-injection=enabled` means it. */
  readonly isDefault: boolean;
  /** Undefined when the record cannot be read, because something else wrote it. */
  readonly settings: Settings | undefined;
}

/** Selects whatever is ours. */
export const ourSelector = Object.entries(ownLabels)
  .map(([key, value]) => `${key}=${value}`)
  .join(",");

/** The revisions that are installed in a cluster, in the order of their names. */
export async function installedRevisions(api: ObjectApi): Promise<readonly Installed[]> {
  const records = await api.list({ apiVersion: "v1", kind: "ConfigMap" }, `${ourSelector},${componentLabel}=base`);
  return records
    .flatMap((record) => {
      const revision = labelOf(record, revisionLabel);
      if (revision === undefined || record.metadata.name !== revisionNames(revision).installation) return [];
      const data = (record["data"] ?? {}) as Readonly<Record<string, string>>;
      const settings = recordedSettings(data["settings.yaml"] ?? "");
      const namespace = record.metadata.namespace ?? "";
      return [{ revision, namespace, isDefault: data["default"] === "true", settings }];
    })
    .sort((a, b) => (a.revision < b.revision ? -1 : 1));
}

/** What an installation was told; settings that it did not know yet are as its profile has them. */
function recordedSettings(text: string): Settings | undefined {
  const recorded = plainObjects(text)[0] as Partial<Settings> | undefined;
  if (!recorded?.profile || !profileNames.includes(recorded.profile) || recorded.tag === undefined) return undefined;
  return overlay(profileSettings(recorded.profile, recorded.tag), recorded) as Settings;
}

export function labelOf(object: KubeObject, label: string): string | undefined {
  return (object.metadata["labels"] as Readonly<Record<string, string>> | undefined)?.[label];
}

/** Whether a revision that is installed now is what `istio-injection=enabled` means: when no other one is. */
export function becomesDefault(revision: string, installed: readonly Installed[]): boolean {
  return !installed.some((other) => other.revision !== revision && other.isDefault);
}

interface Webhooks {
  readonly webhooks?: ReadonlyArray<{ readonly name: string; readonly clientConfig?: { readonly caBundle?: string } }>;
}

/** Whether every webhook of a configuration has the root with which the server checks it. */
export function isTrusted(configuration: KubeObject | undefined): boolean {
  const { webhooks = [] } = (configuration ?? {}) as Webhooks;
  return webhooks.length > 0 && webhooks.every(({ clientConfig }) => (clientConfig?.caBundle ?? "") !== "");
}

/** Whether the validator of a revision may refuse objects already. */
export async function validatorTrusted(api: ObjectApi, revision: string): Promise<boolean> {
  const name = revisionNames(revision).validator;
  const found = await api.get({
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingWebhookConfiguration",
    metadata: { name },
  });
  return found !== undefined && isOurs(found) && isTrusted(found);
}
