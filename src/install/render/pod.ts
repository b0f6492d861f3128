import type { PlacementSettings, ResourceSettings } from "../settings/settings.ts";
import { filled } from "./object.ts";

/** The user and group that all our containers run as. Capture leaves its traffic alone. */
export const proxyUser = 1337;

/** What a container of ours may do: nothing that it does not need. */
export const lockedDown = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  privileged: false,
  readOnlyRootFilesystem: true,
  runAsGroup: proxyUser,
  runAsNonRoot: true,
  runAsUser: proxyUser,
} as const;

export const podSecurity = {
  fsGroup: proxyUser,
  runAsGroup: proxyUser,
  runAsNonRoot: true,
  runAsUser: proxyUser,
  seccompProfile: { type: "RuntimeDefault" },
} as const;

export function resourcesOf({ requests, limits }: ResourceSettings): object {
  return filled({ requests, limits });
}

/** Where pods go: as told, else rather on different nodes than on one. */
export function placement({ nodeSelector, tolerations, affinity }: PlacementSettings, matchLabels: object): object {
  const apart = {
    podAntiAffinity: {
      preferredDuringSchedulingIgnoredDuringExecution: [
        {
          weight: 100,
          podAffinityTerm: { labelSelector: { matchLabels }, topologyKey: "kubernetes.io/hostname" },
        },
      ],
    },
  };
  return filled({ nodeSelector, tolerations, affinity: Object.keys(affinity).length > 0 ? affinity : apart });
}

export function fieldEnv(name: string, fieldPath: string): object {
  return { name, valueFrom: { fieldRef: { fieldPath } } };
}

export function pullSecrets(names: readonly string[]): object {
  return filled({ imagePullSecrets: names.map((name) => ({ name })) });
}
