import { defaultInjectionSettings, writeInjectionSettings } from "../../admission/index.ts";
import { kinds } from "../../resources/index.ts";
import { labelsOf, revisionNames } from "../names.ts";
import { imagesOf } from "../settings/read.ts";
import type { Settings } from "../settings/settings.ts";
import type { Manifest } from "./object.ts";

/** What the injector of a revision is told. The control plane reads its webhooks' settings here as well. */
export function injectionObjects(settings: Settings): readonly Manifest[] {
  const { namespace, revision } = settings;
  return [
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: revisionNames(revision).injection, namespace, labels: labelsOf("control-plane", revision) },
      data: { "injection.json": writeInjectionSettings(injectorSettings(settings)) },
    },
  ];
}

function injectorSettings(settings: Settings) {
  const { enabled: _enabled, failurePolicy: _policy, timeoutSeconds: _timeout, ...wishes } = settings.injection;
  const { cluster, namespace, revision, network, trustDomain, clusterDomain, dataPlane } = settings;
  return defaultInjectionSettings({
    ...wishes,
    hub: settings.hub,
    image: settings.image === "" ? "isthmus" : imagesOf(settings).plain,
    tag: settings.tag,
    imagePullPolicy: settings.imagePullPolicy,
    imagePullSecrets: settings.imagePullSecrets,
    dataPlane,
    cluster,
    revision,
    discovery: `${revisionNames(revision).controlPlane}.${namespace}.svc:15012`,
    trustDomain,
    systemNamespace: namespace,
    clusterDomain,
    network: network === "" ? null : network,
    searchDomains: settings.dns.searchDomains,
  });
}

interface Requirement {
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  readonly values?: readonly string[];
}

const inject = "sidecar.istio.io/inject";
const revisionWish = "istio.io/rev";
const namespaceWish = "istio-injection";

/** Which pods each webhook is asked about: by the namespace's labels first, then by the pod's own. Of each pair one holds. */
interface Selection {
  readonly name: string;
  readonly namespace: readonly Requirement[];
  readonly pod: readonly Requirement[];
}

const wish = (key: string, ...values: readonly string[]): Requirement => ({ key, operator: "In", values });
const not = (key: string, ...values: readonly string[]): Requirement => ({ key, operator: "NotIn", values });
const without = (key: string): Requirement => ({ key, operator: "DoesNotExist" });

/** Asked of whoever names this revision. */
function revisionSelections(revision: string): readonly Selection[] {
  return [
    {
      name: "rev.namespace",
      namespace: [wish(revisionWish, revision), without(namespaceWish)],
      pod: [not(inject, "false")],
    },
    {
      name: "rev.object",
      namespace: [without(revisionWish), without(namespaceWish)],
      pod: [not(inject, "false"), wish(revisionWish, revision)],
    },
  ];
}

/** Asked of whoever names none: they get the revision that is the default one. */
const defaultSelections: readonly Selection[] = [
  { name: "namespace", namespace: [wish(namespaceWish, "enabled")], pod: [not(inject, "false")] },
  {
    name: "object",
    namespace: [without(namespaceWish), without(revisionWish)],
    pod: [wish(inject, "true"), without(revisionWish)],
  },
];

/** Namespaces into which nothing is ever injected: a cluster must be able to start without us. */
export function neverInjected(namespace: string): readonly string[] {
  return ["kube-system", "kube-public", "kube-node-lease", namespace];
}

/** The part of a webhook configuration's names that is the product's own. */
export const injectorDomain = "sidecar-injector.isthmus.dev";
export const validatorName = "validator.isthmus.dev";

/** The injector's webhooks. `isDefault`: whether label `istio-injection=enabled` means this revision. */
export function injectorObjects(settings: Settings, isDefault: boolean): readonly Manifest[] {
  const { namespace, revision, injection } = settings;
  if (!injection.enabled) return [];
  const selections = [...revisionSelections(revision), ...(isDefault ? defaultSelections : [])];
  return [
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "MutatingWebhookConfiguration",
      metadata: { name: revisionNames(revision).injector, labels: labelsOf("control-plane", revision) },
      webhooks: selections.map((selection) => ({
        name: `${selection.name}.${injectorDomain}`,
        admissionReviewVersions: ["v1"],
        clientConfig: { service: serviceOf(settings, "/inject") },
        rules: [
          { apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"], scope: "Namespaced" },
        ],
        namespaceSelector: {
          matchExpressions: [...selection.namespace, not("kubernetes.io/metadata.name", ...neverInjected(namespace))],
        },
        objectSelector: { matchExpressions: selection.pod },
        failurePolicy: injection.failurePolicy,
        matchPolicy: "Equivalent",
        // A webhook that comes later may add a container, whose probes are then rewritten as well.
        reinvocationPolicy: "IfNeeded",
        sideEffects: "None",
        timeoutSeconds: injection.timeoutSeconds,
      })),
    },
  ];
}

/** The validator's webhook. `trusted`: whether the API server has our root already; before, objects are let through. */
export function validatorObjects(settings: Settings, trusted: boolean): readonly Manifest[] {
  const { revision, validation } = settings;
  if (!validation.enabled) return [];
  return [
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingWebhookConfiguration",
      metadata: { name: revisionNames(revision).validator, labels: labelsOf("control-plane", revision) },
      webhooks: [
        {
          name: validatorName,
          admissionReviewVersions: ["v1"],
          clientConfig: { service: serviceOf(settings, "/validate") },
          rules: [
            {
              apiGroups: [kinds.Gateway.group],
              apiVersions: ["*"],
              operations: ["CREATE", "UPDATE"],
              resources: ["*"],
              scope: "Namespaced",
            },
          ],
          // The control plane makes it Fail, once it saw that the API server asks it.
          failurePolicy: trusted ? "Fail" : "Ignore",
          matchPolicy: "Equivalent",
          sideEffects: "None",
          timeoutSeconds: validation.timeoutSeconds,
        },
      ],
    },
  ];
}

function serviceOf({ namespace, revision }: Settings, path: string): object {
  return { name: revisionNames(revision).controlPlane, namespace, path, port: 443 };
}
