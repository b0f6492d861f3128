import { expect, test } from "vitest";
import { kindNames, type Resource, readResources } from "../resources/index.ts";
import { testAuthority } from "../testing/index.ts";
import { buildMesh, defaultMeshSettings, type Mesh, type MeshInput, type MeshSettings } from "./index.ts";

const settings = { cluster: "cluster1", ...defaultMeshSettings };
const root = await testAuthority();
const [first, second] = [await root.issue({ dns: ["a.test"] }), await root.issue({ dns: ["a.test"] })];
const rootPem = root.rootPem;

const gateway = (tls = "mode: SIMPLE, credentialName: site", namespace = "isthmus-system") => `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: site, namespace: ${namespace}}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [a.test]
    tls: {${tls}}
`;
const pod = `
apiVersion: v1
kind: Pod
metadata: {name: gw-1, namespace: isthmus-system, labels: {istio: ingressgateway}}
spec: {containers: [{name: proxy}], serviceAccountName: gw}
`;

function secret(
  entries: Record<string, string>,
  options: { readonly name?: string; readonly namespace?: string } = {},
) {
  const { name = "site", namespace = "isthmus-system" } = options;
  return JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name, namespace }, stringData: entries });
}

function mesh(parts: readonly string[], previous?: Mesh, told: MeshSettings = settings): Mesh {
  const { resources, violations } = readResources(parts.join("\n---\n"), { cluster: "cluster1" });
  expect(violations.filter(({ severity }) => severity === "error")).toEqual([]);
  const view = Object.fromEntries(kindNames.map((kind) => [kind, new Map<string, Resource>()]));
  for (const one of resources) view[one.kind]!.set(`${one.metadata.namespace}/${one.metadata.name}`, one);
  return buildMesh({
    view: view as unknown as MeshInput,
    settings: told,
    ...(previous ? { previous } : {}),
  });
}

const said = ({ findings }: Mesh) => findings.map(({ code, message, hint }) => `${code}: ${message} [${hint}]`);
const good = { "tls.crt": first.certChainPem, "tls.key": first.privateKeyPem };
const generic = { cert: first.certChainPem, key: first.privateKeyPem, cacert: rootPem };

test("a good Secret beside the gateway's pods is no finding, in either of its two forms", () => {
  expect(said(mesh([gateway(), pod, secret(good)]))).toEqual([]);
  expect(said(mesh([gateway("mode: MUTUAL, credentialName: site"), pod, secret(generic)]))).toEqual([]);
});

test("the roots of clients may stand in a Secret of their own", () => {
  const mutual = gateway("mode: MUTUAL, credentialName: site");
  expect(said(mesh([mutual, pod, secret(good)]))).toEqual([
    expect.stringMatching(/^mesh\/secret-missing: mode MUTUAL .* has neither a Secret "site-cacert" nor "ca\.crt"/),
  ]);
  expect(said(mesh([mutual, pod, secret(good), secret({ "ca.crt": rootPem }, { name: "site-cacert" })]))).toEqual([]);
});

test("a Secret beside the Gateway, and not beside its pods, is said to be in the wrong place", () => {
  const there = mesh([gateway(undefined, "foo"), pod, secret(good, { namespace: "foo" })]);
  expect(said(there)).toEqual([
    expect.stringMatching(
      /^mesh\/secret-missing: there is no Secret "site".*"isthmus-system".*\[it stands in namespace "foo"/,
    ),
  ]);
});

test("a Secret that is not read, because its namespace is none of those that are, is said to be that", () => {
  const reading = (secretNamespaces: MeshSettings["secretNamespaces"]) => ({ ...settings, secretNamespaces });
  const hint = /\[the cluster's Secrets are not read there; add "isthmus-system" to --secret-namespaces/;
  expect(said(mesh([gateway(), pod], undefined, reading(["edge"])))).toEqual([expect.stringMatching(hint)]);
  // Also where one of its name stands beside the Gateway: moved, it would not be read either.
  const beside = [gateway(undefined, "foo"), pod, secret(good, { namespace: "foo" })];
  expect(said(mesh(beside, undefined, reading(["foo"])))).toEqual([expect.stringMatching(hint)]);
  for (const read of [["isthmus-system"], undefined])
    expect(said(mesh([gateway(), pod], undefined, reading(read)))).toEqual([
      expect.stringMatching(/\[put it there, or name/),
    ]);
});

const bad: ReadonlyArray<readonly [string, Record<string, string>, RegExp]> = [
  ["another's key", { ...good, "tls.key": second.privateKeyPem }, /is not the key of the first certificate/],
  ["a key that is none", { ...good, "tls.key": "hidden" }, /"tls\.key" is no private key/],
  ["a certificate that is none", { ...good, "tls.crt": "hidden" }, /"tls\.crt" is no PEM certificate/],
  ["a cut certificate", { ...good, "tls.crt": first.certChainPem.slice(0, -40) }, /"tls\.crt" is no PEM certificate/],
  ["no key", { "tls.crt": first.certChainPem }, /has "tls\.crt" and no key/],
  ["roots that are none", { ...good, "ca.crt": "hidden" }, /"ca\.crt" is no PEM certificate/],
];
for (const [it, entries, says] of bad) {
  test(`of a Secret that cannot be used the last good one stays, and it is said: ${it}`, () => {
    const before = mesh([gateway(), pod, secret(good)]);
    const after = mesh([gateway(), pod, secret(entries)], before);
    expect(after.secrets.get("isthmus-system/site")?.keyPair).toEqual(
      before.secrets.get("isthmus-system/site")?.keyPair,
    );
    expect(said(after)).toEqual([expect.stringMatching(says)]);
    expect(said(after).join()).not.toMatch(/hidden|BEGIN/);
    const mended = mesh([gateway(), pod, secret(good)], after);
    expect(said(mended)).toEqual([]);
  });
}

test("a Secret that says the same again keeps its key pair the same object; another certificate is another", () => {
  const before = mesh([gateway(), pod, secret(good)]);
  const pairOf = (one: Mesh) => one.secrets.get("isthmus-system/site")?.keyPair;
  expect(pairOf(mesh([gateway(), pod, secret({ ...good, unrelated: "x" })], before))).toBe(pairOf(before));
  const renewed = { "tls.crt": second.certChainPem, "tls.key": second.privateKeyPem };
  expect(pairOf(mesh([gateway(), pod, secret(renewed)], before))?.chain).toBe(second.certChainPem);
});

test("a Secret with nothing for TLS in it is left aside", () => {
  expect(mesh([secret({ password: "hidden" })]).secrets.size).toBe(0);
});

const server = (name: string, text: string) => `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: ${name}, namespace: foo, creationTimestamp: "2024-01-0${name.length}T00:00:00Z"}
spec: {selector: {istio: ingressgateway}, servers: [${text}]}
`;
const http = (port: number, host = "a.test") =>
  `{port: {number: ${port}, name: http, protocol: HTTP}, hosts: [${host}]}`;
const tls = (port: number, host = "a.test") =>
  `{port: {number: ${port}, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: [${host}]}`;
const tcp = (port: number) => `{port: {number: ${port}, name: tcp, protocol: TCP}, hosts: ["*"]}`;

const clashes: ReadonlyArray<readonly [string, string, string, RegExp | undefined]> = [
  ["two HTTP servers share a port and a host", http(80), http(80), undefined],
  [
    "HTTP after TLS",
    tls(443),
    http(443),
    /^mesh\/gateway-port-conflict: server "http" does not get port 443: Gateway "foo\/a" has it already, and it is for TLS, not plain HTTP/,
  ],
  ["TCP after TCP", tcp(9000), tcp(9000), /^mesh\/gateway-port-conflict: .*plain TCP has no names/],
  [
    "one host of TLS twice",
    tls(443),
    tls(443),
    /^mesh\/gateway-duplicate: port 443 is served for "a\.test" by Gateway "foo\/a" already/,
  ],
  ["a name and a wildcard over it", tls(443, "'*.test'"), tls(443), undefined],
  ["other ports", tls(443), tls(8443), undefined],
];
for (const [it, one, other, says] of clashes) {
  test(`servers that cannot share a port are named: ${it}`, () => {
    const found = said(mesh([server("a", one), server("bb", other)]));
    expect(found).toEqual(says ? [expect.stringMatching(says)] : []);
  });
}
