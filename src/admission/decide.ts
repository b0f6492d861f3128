import type { PodJson } from "./pod.ts";
import { selectsLabels } from "./selector.ts";
import type { InjectionSettings } from "./settings.ts";
import { shown } from "./shape.ts";

/** The annotation and the label that say whether a pod gets a proxy. */
export const injectKey = "sidecar.istio.io/inject";

/** Where nobody's pods are touched: a cluster must come up without its mesh. */
export const systemNamespaces: readonly string[] = ["kube-system", "kube-public", "kube-node-lease"];

/** Whether a pod gets a proxy, and what decided. `detail` is for who wonders. */
export type InjectDecision =
  | { readonly inject: true; readonly by: "label" | "annotation" | "always-selector" | "policy" }
  | {
      readonly inject: false;
      readonly by: "host-network" | "system-namespace" | "label" | "annotation" | "never-selector" | "policy";
      readonly detail: string;
      /** The author most likely wanted something else. */
      readonly odd?: true;
    };

/** Istio 1.6's words. It took any other for no in silence, `enable` and `1` as well. */
const yes: readonly string[] = ["y", "yes", "true", "on"];
const no: readonly string[] = ["n", "no", "false", "off"];

/**
 * The first that applies: the pod's network and namespace, its label, its annotation, the selectors, the policy. That the
 * namespace is one to inject into is what the API server looked at before it asked.
 */
export function injects(
  pod: PodJson,
  namespace: string,
  settings: Pick<InjectionSettings, "systemNamespace" | "policy" | "neverInjectSelector" | "alwaysInjectSelector">,
): InjectDecision {
  if (pod.spec?.hostNetwork === true)
    return { inject: false, by: "host-network", detail: "hostNetwork is true: capture would be the whole machine's" };
  if (namespace === settings.systemNamespace || systemNamespaces.includes(namespace))
    return { inject: false, by: "system-namespace", detail: `nothing is injected in namespace ${shown(namespace)}` };
  const { labels = {}, annotations = {} } = pod.metadata ?? {};
  for (const [by, written] of [
    ["label", labels[injectKey]],
    ["annotation", annotations[injectKey]],
  ] as const) {
    const word = written?.trim().toLowerCase() ?? "";
    if (word === "") continue;
    if (yes.includes(word)) return { inject: true, by };
    const odd = !no.includes(word);
    const detail = `${by} ${injectKey} is ${shown(written)}${odd ? ', which means no; write "true" or "false"' : ""}`;
    return { inject: false, by, detail, ...(odd ? { odd } : {}) };
  }
  const never = settings.neverInjectSelector.find((selector) => selectsLabels(selector, labels));
  if (never) return { inject: false, by: "never-selector", detail: `neverInjectSelector ${shown(never)} selects it` };
  if (settings.alwaysInjectSelector.some((selector) => selectsLabels(selector, labels)))
    return { inject: true, by: "always-selector" };
  if (settings.policy === "enabled") return { inject: true, by: "policy" };
  return { inject: false, by: "policy", detail: `the policy is "disabled", and the pod does not ask by ${injectKey}` };
}
