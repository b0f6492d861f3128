import { create, type JsonObject } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { buildMesh } from "../model/index.ts";
import { NodeSchema } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import { typeUrls } from "../proto/index.ts";
import type { SpiffeId } from "../values/index.ts";
import { readNode } from "./node.ts";
import { snapshotFor } from "./snapshot.ts";
import { meshOf, nodeOf, plain, read, resourcesOf, settings, viewOf } from "./testdata/sample.ts";

const example = (name: string) => read(`${import.meta.dirname}/testdata/${name}/in.yaml`);
const sleep = nodeOf("sidecar~10.1.0.5~sleep-1.foo~foo.svc.cluster.local");
const gateway = nodeOf("router~10.1.0.2~gw-1.isthmus-system~isthmus-system.svc.cluster.local", {
  LABELS: { istio: "ingressgateway" },
});
const egress = nodeOf("router~10.1.0.3~egw-1.isthmus-system~isthmus-system.svc.cluster.local", {
  LABELS: { istio: "egressgateway" },
  REQUESTED_NETWORK_VIEW: "external",
});

describe("a snapshot", () => {
  test("keeps every resource that a change does not touch, as the same object", () => {
    const resources = resourcesOf(example("egress"));
    const before = buildMesh({ view: viewOf(resources), settings });
    const changed = resourcesOf(example("egress").replace("172.18.0.2", "172.18.0.3"));
    const after = buildMesh({
      view: viewOf(resources.map((one, at) => (one.metadata.name === "static" ? changed[at]! : one))),
      settings,
      previous: before,
    });
    const old = snapshotFor(before, egress);
    const now = snapshotFor(after, egress);
    const different = [...now].flatMap(([type, map]) =>
      [...map.values()].filter((one) => old.get(type)!.get(one.name)?.version !== one.version).map((one) => one.name),
    );
    expect(different).toEqual(["outbound_.8000_._.static.bar.global"]);
    const name = "outbound|8000||dns.bar.global";
    expect(snapshotFor(after, sleep).get(typeUrls.cluster)!.get(name)).toBe(
      snapshotFor(before, sleep).get(typeUrls.cluster)!.get(name),
    );
  });

  test("is shared by proxies that are alike, and says where each resource comes from", () => {
    const mesh = meshOf(example("guide-section-3"));
    const name = "outbound|8000||httpbin.bar.global";
    const other = nodeOf("sidecar~10.1.0.6~curl-1.foo~foo.svc.cluster.local");
    const cluster = snapshotFor(mesh, sleep).get(typeUrls.cluster)!.get(name)!;
    expect(snapshotFor(mesh, other).get(typeUrls.cluster)!.get(name)).toBe(cluster);
    expect(cluster.origins).toMatchObject([
      { kind: "ServiceEntry", namespace: "foo", name: "httpbin-bar", file: "in.yaml" },
    ]);
  });

  test("sends the mapped port of a STATIC entry, also after an edit", () => {
    const text = example("egress");
    const before = meshOf(text);
    const after = buildMesh({
      view: viewOf(
        resourcesOf(text.replace("10.96.0.77, ports: { http1: 15443 }", "10.96.0.77, ports: { http1: 31443 }")),
      ),
      settings,
      previous: before,
    });
    const name = "outbound|8000||static.bar.global";
    expect(
      JSON.stringify(plain(typeUrls.endpoints, snapshotFor(after, sleep).get(typeUrls.endpoints)!.get(name)!)),
    ).toContain('"portValue":31443');
  });
});

describe("mutual TLS to another cluster", () => {
  const rule = (tls: string) =>
    `${example("guide-section-3")}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: r, namespace: foo }\nspec: { host: httpbin.bar.global, trafficPolicy: { tls: ${tls} } }`;
  const rows = [
    { it: "stays when a rule names tls and no mode", tls: "{}", secured: true, findings: [] },
    { it: "stays with another server name", tls: "{ sni: other.example.com }", secured: true, findings: [] },
    {
      it: "goes when a rule says so, which is told",
      tls: "{ mode: DISABLE }",
      secured: false,
      findings: ["mesh/mtls-off"],
    },
  ];
  for (const { it, tls, secured, findings } of rows)
    test(it, () => {
      const mesh = meshOf(rule(tls));
      const cluster = snapshotFor(mesh, sleep).get(typeUrls.cluster)!.get("outbound|8000||httpbin.bar.global")!;
      const text = JSON.stringify(plain(typeUrls.cluster, cluster));
      expect(text.includes("UpstreamTlsContext")).toBe(secured);
      if (tls.includes("sni")) expect(text).toContain("other.example.com");
      expect(mesh.findings.map((one) => one.code)).toEqual(findings);
    });
});

describe("a gateway", () => {
  type Listener = { filterChains: Array<{ filterChainMatch: { serverNames: string[] } }> };
  const names = (mesh: ReturnType<typeof meshOf>, node = gateway) => {
    const listener = snapshotFor(mesh, node).get(typeUrls.listener)!.get("0.0.0.0_15443");
    if (!listener) return undefined;
    const { filterChains = [] } = plain(typeUrls.listener, listener) as unknown as Listener;
    return filterChains.flatMap((chain) => chain.filterChainMatch.serverNames);
  };

  test("exposes nothing without a Gateway", () => {
    const text = example("guide-section-3-cluster2");
    expect(names(meshOf(text.slice(text.indexOf("---"))))).toBeUndefined();
  });

  test("exposes each name once, none of kube-system, none of other clusters, however many Gateways ask", () => {
    const all = names(meshOf(`${example("guide-section-3-cluster2")}\n---\n${example("version-routing-cluster2")}`))!;
    expect(new Set(all).size).toBe(all.length);
    expect(all.filter((name) => /kube-system|ratings|elsewhere|_\.53_/.test(name))).toEqual([]);
    expect(all).toContain("outbound_.8000_._.httpbin.bar.global");
    expect(all).toContain("outbound_.9080_.v2_.reviews.default.global");
  });

  test("with narrower hosts exposes those alone", () => {
    const text = example("guide-section-3-cluster2").replace('"*.global"', '"*.elsewhere.global"');
    expect(names(meshOf(text))).toEqual([]);
  });

  test("of another view passes on to that view's endpoints only, a sidecar to the others only", () => {
    const mesh = meshOf(example("egress"));
    const text = (node: typeof sleep, type: keyof typeof typeUrls) =>
      [...snapshotFor(mesh, node).get(typeUrls[type])!.values()]
        .map((one) => JSON.stringify(plain(typeUrls[type] as typeof typeUrls.cluster, one)))
        .join("\n");
    expect(text(egress, "endpoints") + text(egress, "cluster")).not.toMatch(/10\.96\.0\.77|isthmus-egressgateway/);
    expect(text(sleep, "endpoints") + text(sleep, "cluster")).not.toMatch(/172\.18\.0\.2|gateway2\.example\.com/);
    expect(text(sleep, "cluster")).toContain("outbound|8000||closed.bar.global");
  });
});

describe("domains", () => {
  test("no domain stands twice, whatever names and addresses are shared", () => {
    const mesh = meshOf(`${example("guide-section-3-cluster2")}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: clash, namespace: foo }
spec:
  hosts: [httpbin.bar.global, httpbin.bar, other.bar.global]
  location: MESH_INTERNAL
  ports: [{ name: http, number: 8000, protocol: http }]
  resolution: STATIC
  addresses: [240.0.0.8]
  endpoints: [{ address: 10.9.9.9 }]
`);
    const routes = plain(typeUrls.route, snapshotFor(mesh, sleep).get(typeUrls.route)!.get("8000")!) as unknown as {
      virtualHosts: Array<{ domains: string[] }>;
    };
    const all = routes.virtualHosts.flatMap((host) => host.domains);
    expect(new Set(all).size).toBe(all.length);
    expect(all).toContain("httpbin.bar");
  });
});

describe("a node", () => {
  const rows: ReadonlyArray<{ it: string; id: string; metadata?: JsonObject; identity?: string; says: RegExp }> = [
    { it: "with three parts", id: "sidecar~10.0.0.1~a.b", says: /is not "<type>/ },
    { it: "of an unknown type", id: "waypoint~10.0.0.1~a.b~b.svc", says: /neither "sidecar" nor "router"/ },
    { it: "without an address", id: "sidecar~nowhere~a.b~b.svc", says: /no valid address/ },
    {
      it: "of another namespace than its certificate",
      id: "sidecar~10.0.0.1~a.b~b.svc",
      identity: "spiffe://cluster.local/ns/c/sa/a",
      says: /its certificate/,
    },
    {
      it: "with APP_PORTS that are none",
      id: "sidecar~10.0.0.1~a.b~b.svc",
      metadata: { INTERCEPTION_MODE: "NONE", APP_PORTS: "{" },
      says: /APP_PORTS/,
    },
  ];
  for (const { it, id, metadata = {}, identity, says } of rows)
    test(`${it} is refused`, () => {
      const answer = readNode(create(NodeSchema, { id, metadata }), identity as SpiffeId | undefined);
      expect(answer).toMatchObject({ ok: false, reason: expect.stringMatching(says) });
    });
});
