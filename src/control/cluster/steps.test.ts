import { expect, test } from "vitest";
import { nextAddresses } from "./addresses.ts";
import { bundleStep, type FoundWebhooks, readWebhooks } from "./bundle-step.ts";
import { isOurs, ownLabels } from "./names.ts";
import { type RootMap, rootStep } from "./root-maps.ts";

const root: RootMap = { roots: "PEM", ours: true, labelled: true };
const rootRows: ReadonlyArray<[string, Parameters<typeof rootStep>[1], ReturnType<typeof rootStep>]> = [
  ["a namespace without one gets one", { namespace: "there", found: undefined }, "create"],
  ["one that is right is left", { namespace: "there", found: root }, "none"],
  ["another root is put right", { namespace: "there", found: { ...root, roots: "OLD" } }, "apply"],
  ["data that is gone is put right", { namespace: "there", found: { ...root, roots: undefined } }, "apply"],
  ["a label that is gone is put right", { namespace: "there", found: { ...root, labelled: false } }, "apply"],
  ["somebody else's is left", { namespace: "there", found: { ...root, roots: "X", ours: false } }, "foreign"],
  ["a namespace that ends gets nothing", { namespace: "ending", found: undefined }, "none"],
  ["nothing is written where no namespace is", { namespace: "gone", found: { ...root, roots: "OLD" } }, "none"],
];
for (const [it, of, step] of rootRows) test(`root of trust: ${it}`, () => expect(rootStep("PEM", of)).toBe(step));

test("an object is ours by its label, or by having been written by us", () => {
  expect(isOurs({ name: "a", labels: ownLabels })).toBe(true);
  expect(isOurs({ name: "a", labels: {} })).toBe(false);
  // As Helm leaves what our chart says.
  const helms = { ...ownLabels, "app.kubernetes.io/managed-by": "Helm" };
  expect(isOurs({ name: "a", labels: helms })).toBe(true);
  expect(isOurs({ name: "a", labels: { ...helms, "app.kubernetes.io/part-of": "other" } })).toBe(false);
  expect(isOurs({ name: "a", managedFields: [{ manager: "isthmus-controlplane" }] })).toBe(true);
});

const hook = { name: "v.isthmus.dev", bundle: "B", failurePolicy: "Ignore" };
const found: FoundWebhooks = { ours: true, revision: "default", webhooks: [hook] };
const wanted = { bundle: "B", revision: "default", raise: true, proven: false };
const bundleRows: ReadonlyArray<
  [string, FoundWebhooks | undefined, Partial<typeof wanted>, ReturnType<typeof bundleStep>]
> = [
  ["nothing is there", undefined, {}, { kind: "none" }],
  ["it is somebody else's", { ...found, ours: false }, {}, { kind: "foreign" }],
  ["it is of another revision", { ...found, revision: "blue" }, {}, { kind: "foreign" }],
  [
    "the bundle is not in",
    { ...found, webhooks: [{ ...hook, bundle: undefined }] },
    { proven: true },
    { kind: "apply", webhooks: [{ name: hook.name, clientConfig: { caBundle: "B" } }] },
  ],
  ["the bundle is in and nobody has seen it serve", found, {}, { kind: "prove" }],
  [
    "it serves",
    found,
    { proven: true },
    { kind: "apply", webhooks: [{ name: hook.name, clientConfig: { caBundle: "B" }, failurePolicy: "Fail" }] },
  ],
  ["it is strict already", { ...found, webhooks: [{ ...hook, failurePolicy: "Fail" }] }, {}, { kind: "none" }],
  [
    "the root rotated under a strict one, it stays strict",
    { ...found, webhooks: [{ ...hook, bundle: "OLD", failurePolicy: "Fail" }] },
    {},
    { kind: "apply", webhooks: [{ name: hook.name, clientConfig: { caBundle: "B" }, failurePolicy: "Fail" }] },
  ],
  ["it is not to be made strict", found, { raise: false }, { kind: "none" }],
];
for (const [it, one, over, step] of bundleRows)
  test(`webhook configuration: ${it}`, () => expect(bundleStep(one, { ...wanted, ...over })).toEqual(step));

test("a webhook configuration is read as the API gives it, and odd ones do not break", () => {
  const object = {
    metadata: { name: "isthmus-validator", labels: { ...ownLabels, "isthmus.dev/revision": "default" } },
    webhooks: [{ name: "v", clientConfig: { caBundle: "B" }, failurePolicy: "Fail" }, { name: "w" }],
  };
  expect(readWebhooks(object)).toEqual({
    ours: true,
    revision: "default",
    webhooks: [
      { name: "v", bundle: "B", failurePolicy: "Fail" },
      { name: "w", bundle: undefined, failurePolicy: undefined },
    ],
  });
  expect(readWebhooks({ metadata: { name: "a" }, webhooks: "x" }).webhooks).toEqual([]);
});

const one = { host: "a.example", value: "240.240.0.7" };
const six = { host: "a.example", value: "2001:2::7" };
const addressRows: ReadonlyArray<[string, (typeof one)[], (typeof one)[], (typeof one)[] | undefined]> = [
  ["none to one", [], [one], [one]],
  ["the same is not written", [one], [one], undefined],
  ["another family's stays", [six], [one], [one, six]],
  ["another of ours is replaced", [{ ...one, value: "240.240.0.9" }, six], [one], [one, six]],
  ["what is given no more goes", [one, six], [], [six]],
  ["others alone are left alone", [six], [], undefined],
];
for (const [it, written, given, next] of addressRows)
  test(`addresses: ${it}`, () => expect(nextAddresses(written, given)).toEqual(next));
