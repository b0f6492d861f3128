import { describe, expect, test } from "vitest";
import { injects } from "./decide.ts";
import { defaultInjectionSettings, type OwnSettings } from "./settings.ts";

const key = "sidecar.istio.io/inject";

interface Case {
  readonly it: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly namespace?: string;
  readonly hostNetwork?: boolean;
  readonly settings?: Partial<OwnSettings>;
  readonly by: string;
  readonly inject: boolean;
  readonly odd?: boolean;
}

const never = { neverInjectSelector: [{ matchLabels: { app: "db" } }] };
const always = {
  alwaysInjectSelector: [{ matchExpressions: [{ key: "tier", operator: "In" as const, values: ["web"] }] }],
};

const cases: readonly Case[] = [
  { it: "nothing is said: the policy", by: "policy", inject: true },
  { it: "nothing is said, policy disabled", settings: { policy: "disabled" }, by: "policy", inject: false },
  {
    it: "host network, whatever is asked for",
    hostNetwork: true,
    labels: { [key]: "true" },
    by: "host-network",
    inject: false,
  },
  {
    it: "kube-system, whatever is asked for",
    namespace: "kube-system",
    labels: { [key]: "true" },
    by: "system-namespace",
    inject: false,
  },
  { it: "kube-public", namespace: "kube-public", by: "system-namespace", inject: false },
  { it: "kube-node-lease", namespace: "kube-node-lease", by: "system-namespace", inject: false },
  {
    it: "the mesh's own namespace",
    namespace: "mesh",
    settings: { systemNamespace: "mesh" },
    by: "system-namespace",
    inject: false,
  },
  {
    it: "label true beats policy",
    labels: { [key]: "true" },
    settings: { policy: "disabled" },
    by: "label",
    inject: true,
  },
  { it: "label false beats policy", labels: { [key]: "false" }, by: "label", inject: false },
  {
    it: "label beats annotation",
    labels: { [key]: "false" },
    annotations: { [key]: "true" },
    by: "label",
    inject: false,
  },
  {
    it: "label beats the never selector",
    labels: { [key]: "true", app: "db" },
    settings: never,
    by: "label",
    inject: true,
  },
  {
    it: "an empty label says nothing",
    labels: { [key]: "" },
    annotations: { [key]: "false" },
    by: "annotation",
    inject: false,
  },
  ...["y", "yes", "true", "on", "YES", " True "].map(
    (word): Case => ({
      it: `annotation ${word}`,
      annotations: { [key]: word },
      settings: { policy: "disabled" },
      by: "annotation",
      inject: true,
    }),
  ),
  ...["n", "no", "false", "off"].map(
    (word): Case => ({ it: `annotation ${word}`, annotations: { [key]: word }, by: "annotation", inject: false }),
  ),
  ...["enable", "1", "enabled", "ture"].map(
    (word): Case => ({
      it: `annotation ${word}, which means no, and is said to`,
      annotations: { [key]: word },
      by: "annotation",
      inject: false,
      odd: true,
    }),
  ),
  {
    it: "annotation beats the never selector",
    annotations: { [key]: "true" },
    labels: { app: "db" },
    settings: never,
    by: "annotation",
    inject: true,
  },
  {
    it: "the never selector beats the policy",
    labels: { app: "db" },
    settings: never,
    by: "never-selector",
    inject: false,
  },
  {
    it: "the always selector beats the policy",
    labels: { tier: "web" },
    settings: { ...always, policy: "disabled" },
    by: "always-selector",
    inject: true,
  },
  {
    it: "never beats always",
    labels: { app: "db", tier: "web" },
    settings: { ...never, ...always },
    by: "never-selector",
    inject: false,
  },
  {
    it: "a selector of other labels says nothing",
    labels: { app: "web" },
    settings: { ...never, ...always },
    by: "policy",
    inject: true,
  },
];

describe("whether a pod gets a proxy", () => {
  for (const {
    it,
    labels = {},
    annotations = {},
    namespace = "foo",
    hostNetwork = false,
    settings,
    by,
    inject,
    odd,
  } of cases) {
    test(it, () => {
      const pod = { metadata: { labels, annotations }, spec: { hostNetwork, containers: [] } };
      const all = defaultInjectionSettings({ cluster: "c", tag: "1", ...settings });
      expect(injects(pod, namespace, all)).toMatchObject({ by, inject, ...(odd ? { odd } : {}) });
    });
  }
});
