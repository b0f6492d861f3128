import { customKinds, customResourceDefinition, writeManifest } from "../../resources/index.ts";
import { labelsOf, revisionNames } from "../names.ts";
import type { Settings } from "../settings/settings.ts";
import { controlPlaneObjects, dnsObjects } from "./control-plane.ts";
import { gatewayObjects } from "./gateway.ts";
import { injectionObjects, injectorObjects, validatorObjects } from "./injection.ts";
import { meshRules } from "./mesh-rules.ts";
import type { Manifest } from "./object.ts";
import { rbacObjects } from "./rbac.ts";

/** What a cluster is known to be when its objects are made. */
export interface RenderFacts {
  /** Whether this revision is what label `istio-injection=enabled` means. Gateways and DNS are of that revision. */
  readonly isDefault: boolean;
  /** Whether the API server has our root, so that what the validator refuses can be refused. */
  readonly trusted: boolean;
}

/** Objects that are applied together, in this order; what comes later may need what is before it. */
export interface Stages {
  readonly base: readonly Manifest[];
  readonly controlPlane: readonly Manifest[];
  /** What sends the API server to the control plane, so not before that answers. */
  readonly webhooks: readonly Manifest[];
  readonly gateways: readonly Manifest[];
  readonly rules: readonly Manifest[];
}

export const stageNames = ["base", "controlPlane", "webhooks", "gateways", "rules"] as const;

/** From settings to objects: nothing but what is told, always in the same order. */
export function renderStages(settings: Settings, { isDefault, trusted }: RenderFacts): Stages {
  const { namespace, revision } = settings;
  return {
    base: [
      {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: { name: namespace, labels: { ...labelsOf("base"), "istio-injection": "disabled" } },
      },
      ...customKinds.map((kind) => definition(kind)),
      installationRecord(settings, isDefault),
    ],
    controlPlane: [
      ...rbacObjects(settings),
      ...injectionObjects(settings),
      ...controlPlaneObjects(settings),
      ...(isDefault ? dnsObjects(settings) : []),
    ],
    webhooks: [...injectorObjects(settings, isDefault), ...validatorObjects(settings, trusted)],
    gateways: isDefault ? [...gatewayObjects(settings, "ingress"), ...gatewayObjects(settings, "egress")] : [],
    rules: isDefault ? meshRules(settings) : [],
  };

  function definition(kind: (typeof customKinds)[number]): Manifest {
    const made = customResourceDefinition(kind);
    return { ...made, metadata: { ...made.metadata, labels: labelsOf("base") } };
  }

  /** What this installation was told, for those that come later: verify, upgrade, and a person who wonders. */
  function installationRecord(told: Settings, whether: boolean): Manifest {
    return {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: revisionNames(revision).installation, namespace, labels: labelsOf("base", revision) },
      data: { default: String(whether), "settings.yaml": writeManifest([told]) },
    };
  }
}

export function renderAll(settings: Settings, facts: RenderFacts): readonly Manifest[] {
  const stages = renderStages(settings, facts);
  return stageNames.flatMap((name) => stages[name]);
}
