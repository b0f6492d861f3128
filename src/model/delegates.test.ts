import { describe, expect, test } from "vitest";
import { readResources, type VirtualService } from "../resources/index.ts";
import { joinMatches } from "./join-matches.ts";
import { defaultMeshSettings } from "./mesh.ts";
import { buildVirtualServices } from "./virtual-services.ts";

const settings = Object.freeze({ cluster: "cluster1", ...defaultMeshSettings });

function service(name: string, spec: string, namespace = "foo"): VirtualService {
  const text = `apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: ${name}, namespace: ${namespace} }\nspec: ${spec}\n`;
  const { resources, violations } = readResources(text, { cluster: "cluster1" });
  const errors = violations.filter((one) => one.severity === "error");
  if (errors.length > 0) throw new Error(JSON.stringify(errors));
  return resources[0] as VirtualService;
}

/** The matches of the rules of `match` lists, as one object each. */
function matches(list: string) {
  const [rule] = service("x", `{ hosts: [a.b], http: [{ match: ${list}, directResponse: { status: 200 } }] }`).spec
    .http;
  return rule!.match;
}

describe("what two matches have in common", () => {
  const rows = [
    { it: "the longer prefix", outer: "[{uri: {prefix: /a}}]", inner: "[{uri: {prefix: /a/b}}]", is: "/a/b" },
    {
      it: "the longer prefix, written outside",
      outer: "[{uri: {prefix: /a/b}}]",
      inner: "[{uri: {prefix: /a}}]",
      is: "/a/b",
    },
    {
      it: "the exact path within a prefix",
      outer: "[{uri: {prefix: /a}}]",
      inner: "[{uri: {exact: /a/b}}]",
      is: "/a/b",
    },
    {
      it: "the path of the only one that names one",
      outer: "[{uri: {prefix: /a}}]",
      inner: "[{method: {exact: GET}}]",
      is: "/a",
    },
    { it: "the same expression", outer: '[{uri: {regex: "/a.*"}}]', inner: '[{uri: {regex: "/a.*"}}]', is: "/a.*" },
    { it: "nothing of two paths", outer: "[{uri: {prefix: /a}}]", inner: "[{uri: {exact: /b}}]" },
    {
      it: "nothing that could be said of two expressions",
      outer: '[{uri: {regex: "/a.*"}}]',
      inner: '[{uri: {regex: "/.*b"}}]',
    },
    { it: "nothing of two ports", outer: "[{port: 1}]", inner: "[{port: 2}]" },
    {
      it: "nothing of two values of a header",
      outer: "[{headers: {a: {exact: x}}}]",
      inner: "[{headers: {a: {exact: y}}}]",
    },
    { it: "nothing of two labels", outer: "[{sourceLabels: {a: x}}]", inner: "[{sourceLabels: {a: y}}]" },
    { it: "nothing of two gateways", outer: "[{gateways: [a/b]}]", inner: "[{gateways: [mesh]}]" },
    {
      it: "nothing of a path in any case and one in its own",
      outer: "[{uri: {prefix: /a}, ignoreUriCase: true}]",
      inner: "[{uri: {prefix: /a}}]",
    },
  ];
  for (const { it, outer, inner, is } of rows)
    test(it, () => {
      const both = joinMatches(matches(outer), matches(inner));
      const said = both?.map(({ uri }) => uri?.exact ?? uri?.prefix ?? uri?.regex);
      expect(said).toEqual(is === undefined ? undefined : [is]);
    });

  test("of a header that must be there and one that has a value it is the value", () => {
    const [both] = joinMatches(
      matches("[{headers: {a: {}, b: {prefix: x}}}]"),
      matches("[{headers: {a: {exact: y}}}]"),
    )!;
    expect(both!.headers).toEqual({ a: { exact: "y" }, b: { prefix: "x" } });
  });

  test("of two exclusions of one header it is the wider one", () => {
    const [both] = joinMatches(
      matches("[{withoutHeaders: {a: {prefix: v1}, b: {exact: x}}}]"),
      matches("[{withoutHeaders: {a: {exact: v1.5}, b: {}}}]"),
    )!;
    expect(both!.withoutHeaders).toEqual({ a: { prefix: "v1" }, b: {} });
  });

  test("each of one list is joined with each of the other", () => {
    const both = joinMatches(matches("[{port: 1}, {port: 2}]"), matches("[{uri: {prefix: /a}}, {port: 2}]"));
    expect(both?.map(({ port, uri }) => [port, uri?.prefix])).toEqual([
      [1, "/a"],
      [2, "/a"],
      [2, undefined],
    ]);
  });
});

describe("a delegate's rules", () => {
  const root = service(
    "root",
    "{ hosts: [a.b], http: [{ name: r, match: [{ uri: { prefix: /a } }], timeout: 5s, mirror: { host: copy }, delegate: { name: d, namespace: bar } }, { route: [{ destination: { host: rest } }] }] }",
  );
  const delegate = service(
    "d",
    "{ http: [{ name: one, match: [{ uri: { exact: /a/1 } }], timeout: 1s, route: [{ destination: { host: own } }] }, { route: [{ destination: { host: own } }] }] }",
    "bar",
  );

  test("stand in the place of the rule that delegates, with what it says where they say nothing", () => {
    const { routes, findings } = buildVirtualServices([root, delegate], settings);
    expect(findings).toEqual([]);
    expect(routes.map((one) => one.name)).toEqual(["root"]);
    expect(routes[0]!.origins.map((one) => one.name)).toEqual(["root", "d"]);
    const seen = routes[0]!.spec.http.map((rule) => [
      rule.name,
      rule.timeout,
      rule.route[0]!.destination.host,
      rule.mirror?.host,
      rule.match.map(({ uri }) => uri?.exact ?? uri?.prefix),
    ]);
    expect(seen).toEqual([
      ["r-one", 1000, "own.bar.svc.cluster.local", "copy.foo.svc.cluster.local", ["/a/1"]],
      ["r", 5000, "own.bar.svc.cluster.local", "copy.foo.svc.cluster.local", ["/a"]],
      ["", undefined, "rest", undefined, []],
    ]);
  });

  test("are made anew when the delegate changes, and are the same object as long as it does not", () => {
    const [first] = buildVirtualServices([root, delegate], settings).routes;
    expect(buildVirtualServices([delegate, root], settings).routes[0]).toBe(first);
    const changed = service("d", "{ http: [{ directResponse: { status: 418 } }] }", "bar");
    const [second] = buildVirtualServices([root, changed], settings).routes;
    expect(second!.spec.http[0]!.directResponse?.status).toBe(418);
    const [third] = buildVirtualServices([root], settings).routes;
    expect(third!.spec.http.map((rule) => rule.route[0]!.destination.host)).toEqual(["rest"]);
  });

  test("are told of when nobody wants them", () => {
    expect(buildVirtualServices([delegate], settings)).toMatchObject({
      routes: [],
      findings: [{ code: "mesh/delegate-unused", origin: { name: "d" } }],
    });
  });
});
