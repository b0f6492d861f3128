import { captureArgs } from "./capture-args.ts";
import type { ContainerJson } from "./pod.ts";
import { imageOf, initName, pullPolicy, resourcesJson } from "./proxy-container.ts";
import type { InjectionSettings } from "./settings.ts";
import type { PodWishes } from "./wishes.ts";

/** The init container that redirects the pod's connections to the proxy: the only one that needs rights, and it ends. */
export function initContainer({
  settings,
  wishes,
}: {
  readonly settings: InjectionSettings;
  readonly wishes: PodWishes;
}): ContainerJson {
  return {
    name: initName,
    image: imageOf(settings),
    ...pullPolicy(settings),
    args: captureArgs(wishes),
    resources: resourcesJson(settings.resources.init),
    securityContext: {
      runAsUser: 0,
      runAsGroup: 0,
      runAsNonRoot: false,
      privileged: false,
      allowPrivilegeEscalation: false,
      // iptables keeps a lock in a file.
      readOnlyRootFilesystem: false,
      capabilities: { add: ["NET_ADMIN", "NET_RAW"], drop: ["ALL"] },
      seccompProfile: { type: "RuntimeDefault" },
    },
  };
}
