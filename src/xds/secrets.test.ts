import { create, fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import type { Mesh } from "../model/index.ts";
import { NodeSchema } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import { SecretSchema } from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { typeUrls } from "../proto/index.ts";
import { testAuthority } from "../testing/index.ts";
import { type SpiffeId, spiffeId } from "../values/index.ts";
import { readNode } from "./node.ts";
import { snapshotFor } from "./snapshot.ts";
import { meshOf } from "./testdata/sample.ts";

const root = await testAuthority();
const { certChainPem, privateKeyPem } = await root.issue({ dns: ["a.test"] });

const secret = (name: string, namespace: string, entries: Record<string, string>) =>
  JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name, namespace }, stringData: entries });
const pod = (name: string, namespace: string, app: string) =>
  `{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: ${namespace}, labels: {app: ${app}}}, spec: {containers: [{name: x}], serviceAccountName: ${app}}}`;
const pair = { "tls.crt": certChainPem, "tls.key": privateKeyPem };

const text = [
  secret("site", "edge", pair),
  secret("site-cacert", "edge", { "ca.crt": root.rootPem }),
  secret("unnamed", "edge", pair),
  secret("site", "foo", pair),
  secret("partner", "foo", { ...pair, "ca.crt": root.rootPem }),
  pod("gw-1", "edge", "gw"),
  pod("other-1", "edge", "other"),
  pod("gw-2", "foo", "gw"),
  pod("web-1", "foo", "web"),
  `{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: site, namespace: foo}, spec: {selector: {app: gw}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.test], tls: {mode: MUTUAL, credentialName: site}}]}}`,
  `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: partner, namespace: foo}, spec: {hosts: [partner.test], ports: [{number: 443, name: http, protocol: HTTP}], resolution: DNS}}`,
  `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: partner, namespace: foo}, spec: {host: partner.test, workloadSelector: {matchLabels: {app: web}}, trafficPolicy: {tls: {mode: MUTUAL, credentialName: partner}}}}`,
].join("\n---\n");
const mesh = meshOf(text);

function names(
  id: string,
  options: { readonly account?: string | undefined; readonly metadata?: object; readonly of?: Mesh },
) {
  const namespace = id.split("~")[2]!.split(".")[1]!;
  const { account, metadata = {} } = options;
  const identity: SpiffeId | undefined =
    account === undefined ? undefined : spiffeId({ trustDomain: "cluster.local", namespace, serviceAccount: account });
  const read = readNode(create(NodeSchema, { id, metadata: metadata as never }), identity);
  if (!read.ok) throw new Error(read.reason);
  return [
    ...(snapshotFor(options.of ?? mesh, read.node)
      .get(typeUrls.secret)
      ?.keys() ?? []),
  ];
}

const gateway = "router~10.0.0.1~gw-1.edge~edge.svc.cluster.local";
const both = ["kubernetes://site", "kubernetes://site-cacert"];
const rows: ReadonlyArray<
  readonly [string, string, { readonly account?: string; readonly metadata?: object }, readonly string[]]
> = [
  ["a gateway that proved who it is gets what its Gateways name", gateway, { account: "gw" }, both],
  ["who proved nothing gets nothing", gateway, {}, []],
  ["who is another account of the namespace gets nothing", gateway, { account: "other" }, []],
  [
    "a pod that only says that it is a gateway gets nothing",
    "router~10.0.0.1~other-1.edge~edge.svc.cluster.local",
    { account: "other", metadata: { LABELS: { app: "gw" } } },
    [],
  ],
  [
    "a pod that the cluster does not know gets nothing",
    "router~10.0.0.1~gw-9.edge~edge.svc.cluster.local",
    { account: "gw", metadata: { LABELS: { app: "gw" } } },
    [],
  ],
  [
    "a gateway of another namespace gets that namespace's Secret, and not more",
    "router~10.0.0.1~gw-2.foo~foo.svc.cluster.local",
    { account: "gw" },
    ["kubernetes://site"],
  ],
  [
    "a sidecar gets what a rule of its namespace names that selects it",
    "sidecar~10.0.0.1~web-1.foo~foo.svc.cluster.local",
    { account: "web" },
    ["kubernetes://partner", "kubernetes://partner-cacert"],
  ],
  [
    "a sidecar that no rule selects gets nothing",
    "sidecar~10.0.0.1~gw-2.foo~foo.svc.cluster.local",
    { account: "gw" },
    [],
  ],
];
for (const [it, id, options, expected] of rows) test(it, () => expect(names(id, options)).toEqual(expected));

test("what is told is the pair and the roots, and changes with the Secret alone", () => {
  const read = readNode(
    create(NodeSchema, { id: gateway }),
    spiffeId({ trustDomain: "cluster.local", namespace: "edge", serviceAccount: "gw" }),
  );
  if (!read.ok) throw new Error(read.reason);
  const before = snapshotFor(mesh, read.node).get(typeUrls.secret)!;
  const { type } = fromBinary(SecretSchema, before.get("kubernetes://site")!.bytes);
  if (type.case !== "tlsCertificate") throw new Error(`got ${type.case}`);
  const shown = [type.value.certificateChain, type.value.privateKey].map((one) =>
    Buffer.from(one?.specifier.value as Uint8Array).toString(),
  );
  expect(shown).toEqual([certChainPem, privateKeyPem]);
  const again = snapshotFor(meshOf(text), read.node).get(typeUrls.secret)!;
  for (const [name, { version }] of before) expect(again.get(name)?.version).toBe(version);
});

test("a sidecar follows a rule that selects it, and its neighbour the one for everybody", () => {
  const sniOf = (name: string, account: string) => {
    const read = readNode(
      create(NodeSchema, { id: `sidecar~10.0.0.1~${name}.foo~foo.svc.cluster.local` }),
      spiffeId({ trustDomain: "cluster.local", namespace: "foo", serviceAccount: account }),
    );
    if (!read.ok) throw new Error(read.reason);
    const cluster = snapshotFor(mesh, read.node).get(typeUrls.cluster)!.get("outbound|443||partner.test")!;
    return Buffer.from(cluster.bytes).toString("latin1").includes("kubernetes://partner");
  };
  expect(sniOf("web-1", "web")).toBe(true);
  expect(sniOf("gw-2", "gw")).toBe(false);
});
