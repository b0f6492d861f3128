import { describe, expect, test } from "vitest";
import { readSettings, splitPath } from "./read.ts";
import type { Settings } from "./settings.ts";

const read = (sets: readonly string[], ...texts: readonly string[]) =>
  readSettings({ files: texts.map((text, index) => ({ file: `f${index}.yaml`, text })), sets, version: "1.2.3" });

describe("settings", () => {
  const good: ReadonlyArray<{
    readonly it: string;
    readonly sets: readonly string[];
    readonly files?: readonly string[];
    readonly is: (all: Settings) => unknown;
    readonly value: unknown;
  }> = [
    {
      it: "nothing said is profile default",
      sets: [],
      is: ({ profile, tag }) => [profile, tag],
      value: ["default", "1.2.3"],
    },
    {
      it: "a profile by --set",
      sets: ["profile=demo"],
      is: ({ controlPlane, demoCertificates }) => [controlPlane.replicas, demoCertificates],
      value: [1, true],
    },
    {
      it: "a profile by file",
      sets: [],
      files: ["profile: multicluster-gateways"],
      is: ({ gateways }) => gateways.egress.networkView,
      value: "external",
    },
    {
      it: "a file over the profile",
      sets: [],
      files: ["profile: demo\ncontrolPlane: { replicas: 3 }"],
      is: ({ controlPlane }) => controlPlane.replicas,
      value: 3,
    },
    {
      it: "a later file over an earlier one",
      sets: [],
      files: ["logLevel: warn\nhub: a/b", "logLevel: debug"],
      is: ({ logLevel, hub }) => [logLevel, hub],
      value: ["debug", "a/b"],
    },
    {
      it: "--set over files",
      sets: ["logLevel=error"],
      files: ["logLevel: warn"],
      is: ({ logLevel }) => logLevel,
      value: "error",
    },
    { it: "a text that looks like a number", sets: ["tag=1.10"], is: ({ tag }) => tag, value: "1.10" },
    {
      it: "a key with dots",
      sets: ["gateways.ingress.annotations.example\\.com/a=true"],
      is: ({ gateways }) => gateways.ingress.annotations,
      value: { "example.com/a": "true" },
    },
    {
      it: "a mapping as a whole",
      sets: ["controlPlane.nodeSelector={a: b}"],
      is: ({ controlPlane }) => controlPlane.nodeSelector,
      value: { a: "b" },
    },
    {
      it: "a list",
      sets: ["imagePullSecrets=[one, two]"],
      is: ({ imagePullSecrets }) => imagePullSecrets,
      value: ["one", "two"],
    },
    {
      it: "mappings add up",
      sets: ["controlPlane.resources.requests.cpu=1"],
      is: ({ controlPlane }) => controlPlane.resources.requests,
      value: { cpu: "1", memory: "256Mi" },
    },
    {
      it: "an equals sign in the value",
      sets: ["network=a"],
      files: ["gateways: { ingress: { annotations: { x: a=b } } }"],
      is: ({ gateways }) => gateways.ingress.annotations["x"],
      value: "a=b",
    },
  ];
  for (const { it, sets, files = [], is, value } of good) {
    test(it, () => expect(is(read(sets, ...files))).toEqual(value));
  }

  const wrong: ReadonlyArray<{
    readonly it: string;
    readonly sets?: readonly string[];
    readonly files?: readonly string[];
    readonly says: readonly RegExp[];
  }> = [
    {
      it: "an unknown setting, with what was meant",
      files: ["a: 1\nlogLevl: warn"],
      says: [/f0.yaml:1:1: a: is no setting/, /f0.yaml:2:1: logLevl: is no setting; did you mean "logLevel"\?/],
    },
    {
      it: "a wrong word",
      sets: ["profile=demoo"],
      says: [/--set profile=demoo: profile must be one of default, .*did you mean "demo"/],
    },
    {
      it: "a wrong type, with its place",
      files: ["controlPlane:\n  replicas: many"],
      says: [/f0.yaml:2:13: controlPlane.replicas: must be a whole number from 1 to 100, got "many"/],
    },
    { it: "a setting below a setting", sets: ["cluster.name=x"], says: [/cluster must be a cluster's name/] },
    { it: "no value", sets: ["cluster"], says: [/must be path=value/] },
    { it: "an empty part", sets: ["a..b=1"], says: [/empty part/] },
    { it: "a text that is no YAML", files: ["a: [1"], says: [/f0.yaml:/] },
    { it: "a list where a mapping belongs", files: ["- a"], says: [/must be a mapping, got a list/] },
    {
      it: "two settings that exclude each other",
      sets: ["gateways.egress.nodePort=31443"],
      says: [/gateways.egress.nodePort is of no use with type "ClusterIP"/],
    },
    { it: "demo certificates outside a demo", sets: ["demoCertificates=true"], says: [/for profile demo alone/] },
    {
      it: "an amount that is none",
      sets: ["controlPlane.resources.requests.cpu=lots"],
      says: [/amounts such as "100m"/],
    },
    {
      it: "an image that may be one of the hub's, or not",
      sets: ["image=mesh"],
      says: [/image must be an image's whole reference, with a slash, a colon or a digest, got "mesh"/],
    },
    {
      it: "a revision that would take a part's place",
      sets: ["revision=ingressgateway"],
      says: [/revision cannot be "ingressgateway": isthmus-ingressgateway is a part of the mesh/],
    },
    {
      it: "all of it at once",
      sets: ["profile=x", "hub=/"],
      files: ["b: 1"],
      says: [/b: is no setting/, /profile must/, /hub must/],
    },
  ];
  for (const { it, sets = [], files = [], says } of wrong) {
    test(`refuses ${it}`, () => {
      let message = "";
      try {
        read(sets, ...files);
      } catch (caught) {
        message = (caught as Error).message;
      }
      for (const expected of says) expect(message).toMatch(expected);
    });
  }

  test("nothing that somebody writes reaches a prototype", () => {
    expect(() => read([], '{"__proto__": {"polluted": true}}')).toThrow(/is not allowed/);
    expect(() => read(["__proto__.polluted=true"])).toThrow(/is no setting/);
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });

  test("a path is cut at its dots", () => {
    expect(splitPath("a.b\\.c.d")).toEqual(["a", "b.c", "d"]);
    expect(splitPath("a.")).toEqual(["a", ""]);
    expect(splitPath("a\\")).toEqual(["a\\"]);
  });
});
