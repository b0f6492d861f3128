import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readResources, writeManifest } from "../../resources/index.ts";
import { readSettings } from "../settings/read.ts";
import { profileNames } from "../settings/settings.ts";
import { gatewayNames } from "./gateway.ts";
import { renderAll, renderStages } from "./manifest.ts";
import { type Manifest, nameOf } from "./object.ts";
import { clusterRules, secretRules, systemRules } from "./rbac.ts";

const golden = join(import.meta.dirname, "testdata");
const facts = { isDefault: true, trusted: false };

function render(sets: readonly string[], given = facts): readonly Manifest[] {
  return renderAll(readSettings({ files: [], sets: ["cluster=cluster1", ...sets], version: "0.0.0-test" }), given);
}

const specOf = (all: readonly Manifest[], name: string) => {
  const found = all.find((manifest) => nameOf(manifest) === name);
  if (!found) throw new Error(`no ${name} in ${all.map(nameOf).join(", ")}`);
  // biome-ignore lint/suspicious/noExplicitAny: tests look into objects of many kinds
  return found as any;
};

describe("manifests", () => {
  for (const profile of profileNames) {
    test(`profile ${profile} is what it was`, () => {
      // The definitions have tests of their own, and would be most of the text.
      const all = render([`profile=${profile}`]).filter(({ kind }) => kind !== "CustomResourceDefinition");
      const text = writeManifest(all);
      const file = join(golden, `${profile}.yaml`);
      if (process.env["ISTHMUS_GOLDEN"] === "write") {
        mkdirSync(golden, { recursive: true });
        writeFileSync(file, text);
      }
      expect(text).toBe(readFileSync(file, "utf8"));
    });
  }

  test("the same settings give the same text", () => {
    expect(writeManifest(render(["profile=demo"]))).toBe(writeManifest(render(["profile=demo"])));
  });

  test("every object has the labels by which it is found again", () => {
    for (const { metadata, ...rest } of render(["profile=multicluster-gateways"])) {
      const name = nameOf({ metadata, kind: rest.kind });
      expect(metadata.labels, name).toMatchObject({
        "app.kubernetes.io/managed-by": "isthmus",
        "app.kubernetes.io/part-of": "isthmus",
        "isthmus.dev/component": expect.stringMatching(/^(base|control-plane|(in|e)gress-gateway|dns|mesh-rules)$/),
      });
      const shared = ["Namespace", "CustomResourceDefinition"].includes(rest.kind);
      expect(metadata.labels?.["isthmus.dev/revision"], name).toBe(shared ? undefined : "default");
    }
  });

  test("what is of the mesh's own kinds is good by our own reader", () => {
    const all = render(["profile=multicluster-gateways"]);
    const read = readResources(writeManifest(all), { cluster: "cluster1" });
    expect(read.violations.filter(({ severity }) => severity === "error")).toEqual([]);
    expect(read.resources.filter(({ kind }) => kind === "Gateway")).toHaveLength(2);
  });

  const images = [
    { it: "hub and tag", sets: ["hub=example.com/mesh", "tag=1"], image: "example.com/mesh/isthmus:1-envoy" },
    { it: "a reference", sets: ["image=example.com/mesh:1"], image: "example.com/mesh:1-envoy" },
    { it: "a digest, of which there is no other form", sets: ["image=mesh@sha256:0a"], image: "mesh@sha256:0a" },
  ];
  for (const { it, sets, image } of images) {
    test(`the image with an Envoy is made of ${it}`, () => {
      const { spec } = specOf(render(["dataPlane=envoy", ...sets]), "Deployment isthmus-system/isthmus-ingressgateway");
      expect(spec.template.spec.containers[0].image).toBe(image);
    });
  }

  test("words that older YAML takes for something else are quoted", () => {
    expect(writeManifest(render([]))).toContain('- "off"');
  });

  test("a container may do nothing that it need not", () => {
    for (const name of ["isthmus", "isthmus-ingressgateway", "isthmus-egressgateway"]) {
      const { spec } = specOf(render(["profile=multicluster-gateways"]), `Deployment isthmus-system/${name}`).spec
        .template;
      expect(spec.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
      for (const { securityContext } of spec.containers) {
        expect(securityContext).toMatchObject({
          allowPrivilegeEscalation: false,
          capabilities: { drop: ["ALL"] },
          readOnlyRootFilesystem: true,
          runAsUser: 1337,
        });
      }
    }
  });

  test("gateways have no right to anything, and the control plane reads Secrets only where gateways are", () => {
    const all = render(["profile=multicluster-gateways", "gateways.secretNamespaces=[edge]"]);
    const bindings = all.filter(({ kind }) => kind.endsWith("Binding"));
    for (const binding of bindings)
      expect((binding["subjects"] as object[]).map((subject) => (subject as { name: string }).name)).toEqual([
        "isthmus",
      ]);
    const secrets = all.filter((manifest) => JSON.stringify(manifest["rules"] ?? []).includes('"secrets"'));
    expect(secrets.map(nameOf)).toEqual(["Role isthmus-system/isthmus-secrets", "Role edge/isthmus-secrets"]);
  });

  test("no rule gives everything", () => {
    for (const rule of [...clusterRules("default"), ...systemRules("default"), ...secretRules])
      expect([...rule.apiGroups, ...rule.resources, ...rule.verbs]).not.toContain("*");
  });

  test("beside a default revision another has no gateways, no DNS, no mesh rules, and is asked only by its name", () => {
    const all = render(["profile=multicluster-gateways", "revision=canary"], { isDefault: false, trusted: true });
    expect(
      all
        .filter(({ metadata }) => metadata.name.includes("gateway") && !metadata.name.includes("gateways."))
        .map(nameOf),
    ).toEqual([]);
    const { webhooks } = specOf(all, "MutatingWebhookConfiguration isthmus-sidecar-injector-canary");
    expect(webhooks.map(({ name }: { name: string }) => name.split(".sidecar")[0])).toEqual([
      "rev.namespace",
      "rev.object",
    ]);
    specOf(all, "Service isthmus-system/isthmus-canary");
  });

  test("the validator refuses nothing before the server trusts it", () => {
    const policy = (trusted: boolean) =>
      specOf(render([], { isDefault: true, trusted }), "ValidatingWebhookConfiguration isthmus-validator").webhooks[0]
        .failurePolicy;
    expect([policy(false), policy(true)]).toEqual(["Ignore", "Fail"]);
  });

  const selected = [
    { it: "a pod of a labelled namespace", namespace: { "istio-injection": "enabled" }, pod: {}, by: ["namespace"] },
    {
      it: "one that does not want",
      namespace: { "istio-injection": "enabled" },
      pod: { "sidecar.istio.io/inject": "false" },
      by: [],
    },
    {
      it: "one that names a revision there",
      namespace: { "istio-injection": "enabled" },
      pod: { "istio.io/rev": "default" },
      by: ["namespace"],
    },
    {
      it: "one of a namespace that names the revision",
      namespace: { "istio.io/rev": "default" },
      pod: {},
      by: ["rev.namespace"],
    },
    { it: "one of a namespace that names another", namespace: { "istio.io/rev": "canary" }, pod: {}, by: [] },
    {
      it: "one that wants, where nobody said anything",
      namespace: {},
      pod: { "sidecar.istio.io/inject": "true" },
      by: ["object"],
    },
    { it: "one that names the revision, there", namespace: {}, pod: { "istio.io/rev": "default" }, by: ["rev.object"] },
    { it: "one that says nothing, there", namespace: {}, pod: {}, by: [] },
    {
      it: "one in a namespace that is out",
      namespace: { "istio-injection": "disabled" },
      pod: { "sidecar.istio.io/inject": "true" },
      by: [],
    },
    {
      it: "one in kube-system",
      namespace: { "kubernetes.io/metadata.name": "kube-system", "istio-injection": "enabled" },
      pod: {},
      by: [],
    },
    {
      it: "one of our own",
      namespace: { "kubernetes.io/metadata.name": "isthmus-system" },
      pod: { "sidecar.istio.io/inject": "true" },
      by: [],
    },
  ];
  for (const { it, namespace, pod, by } of selected) {
    test(`the injector is asked of ${it}: ${by.join() || "never"}`, () => {
      const { webhooks } = specOf(render([]), "MutatingWebhookConfiguration isthmus-sidecar-injector");
      const asked = (webhooks as Webhook[]).filter(
        ({ namespaceSelector, objectSelector }) =>
          matches(namespaceSelector, namespace) && matches(objectSelector, pod),
      );
      expect(asked.map(({ name }) => name.split(".sidecar")[0])).toEqual(by);
    });
  }

  test("an autoscaled gateway is told no number, and a Service gets what it is told", () => {
    const all = render([
      "gateways.ingress.autoscaling.enabled=true",
      "gateways.ingress.nodePort=31443",
      "gateways.ingress.annotations.example\\.com/size=big",
    ]);
    expect(specOf(all, "Deployment isthmus-system/isthmus-ingressgateway").spec).not.toHaveProperty("replicas");
    specOf(all, "HorizontalPodAutoscaler isthmus-system/isthmus-ingressgateway");
    const service = specOf(all, "Service isthmus-system/isthmus-ingressgateway");
    expect(service.metadata.annotations).toEqual({ "example.com/size": "big" });
    expect(service.spec.ports.find(({ port }: { port: number }) => port === 15443).nodePort).toBe(31443);
  });

  test("with Envoy a gateway runs the agent, from the image that has one", () => {
    const [container] = specOf(render(["dataPlane=envoy"]), "Deployment isthmus-system/isthmus-ingressgateway").spec
      .template.spec.containers;
    expect(container.image).toBe("isthmus/isthmus:0.0.0-test-envoy");
    expect(container.args[0]).toBe("agent");
  });

  test("stages apply what others need before those", () => {
    const settings = readSettings({ files: [], sets: ["cluster=c", "profile=demo"], version: "1" });
    const stages = renderStages(settings, facts);
    expect(stages.base[0]?.kind).toBe("Namespace");
    expect(stages.webhooks.every(({ kind }) => kind.endsWith("WebhookConfiguration"))).toBe(true);
    expect(stages.gateways.some(({ metadata }) => metadata.name === gatewayNames.egress.name)).toBe(true);
  });
});

interface Webhook {
  readonly name: string;
  readonly namespaceSelector: Selector;
  readonly objectSelector: Selector;
}

interface Selector {
  readonly matchExpressions: ReadonlyArray<{
    readonly key: string;
    readonly operator: string;
    readonly values?: string[];
  }>;
}

/** As Kubernetes reads a selector. */
function matches({ matchExpressions }: Selector, labels: Readonly<Record<string, string>>): boolean {
  return matchExpressions.every(({ key, operator, values = [] }) => {
    const value = labels[key];
    switch (operator) {
      case "In":
        return value !== undefined && values.includes(value);
      case "NotIn":
        return value === undefined || !values.includes(value);
      case "Exists":
        return value !== undefined;
      default:
        return value === undefined;
    }
  });
}
