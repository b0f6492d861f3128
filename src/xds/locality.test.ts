import { expect, test } from "vitest";
import type { Endpoint } from "../model/index.ts";
import { type Labels, parseLocality } from "../values/index.ts";
import { layoutFor, rankOf, sharesOf } from "./locality.ts";
import type { PortPolicy } from "./policy.ts";

const client = { locality: parseLocality("eu/a/1"), network: "n1", labels: { version: "v1", rack: "r1" } };

const endpoint = (place: string, labels: Labels = {}, network = "n1") =>
  ({ locality: parseLocality(place), labels, network }) as Endpoint;

const ejecting = { outlierDetection: { splitExternalLocalOriginErrors: false } } satisfies PortPolicy;
const setting = (fields: object): PortPolicy => ({
  ...ejecting,
  loadBalancer: { localityLbSetting: { distribute: [], failover: [], failoverPriority: [], ...fields } },
});
const ranks = (policy: PortPolicy, endpoints: readonly Endpoint[]) => {
  const layout = layoutFor(policy, client);
  return endpoints.map((one) => rankOf(one, layout));
};
const places = ["eu/a/1", "eu/a/2", "eu/b", "us", "asia"].map((place) => endpoint(place));

test("all are alike where nothing finds out who is away", () => expect(ranks({}, places)).toEqual([0, 0, 0, 0, 0]));
test("near ones come first where something does", () => expect(ranks(ejecting, places)).toEqual([0, 1, 2, 3, 3]));
test("preference can be switched off", () =>
  expect(ranks(setting({ enabled: false }), places)).toEqual([0, 0, 0, 0, 0]));
test("of far regions the named one comes before the others", () =>
  expect(ranks(setting({ failover: [{ from: "eu", to: "asia" }] }), places)).toEqual([0, 1, 2, 4, 3]));
test("labels are compared in order, up to the first that differs", () => {
  const policy = setting({ failoverPriority: ["version", "rack", "topology.istio.io/network"] });
  const candidates = [
    endpoint("us", { version: "v1", rack: "r1" }),
    endpoint("us", { version: "v1", rack: "r1" }, "n2"),
    endpoint("us", { version: "v1", rack: "r2" }),
    endpoint("eu/a/1", { version: "v2", rack: "r1" }),
  ];
  const found = ranks(policy, candidates);
  expect([...found].sort((a, b) => a - b)).toEqual(found);
  expect(new Set(found).size).toBe(4);
});
test("a label may be compared with a value in place of the client's own", () => {
  const policy = setting({ failoverPriority: ["version=v2"] });
  expect(ranks(policy, [endpoint("us", { version: "v2" }), endpoint("us", { version: "v1" })])).toEqual([0, 5]);
});

test("a place's share is divided among its groups by weight, and who is not named gets nothing", () => {
  const layout = layoutFor(setting({ distribute: [{ from: "eu/*", to: { "eu/*": 60, "eu/b": 10, us: 30 } }] }), client);
  if (layout.kind !== "shared-out") throw new Error("not shared out");
  const groups = ["eu/a/1", "eu/a/2", "eu/b", "us", "asia"].map((place, at) => ({
    locality: parseLocality(place),
    weight: at === 1 ? 3 : 1,
  }));
  expect(sharesOf(groups, layout)).toEqual([1500, 4500, 1000, 3000, undefined]);
});
test("a distribution is for clients of its place alone", () =>
  expect(layoutFor(setting({ distribute: [{ from: "us", to: { us: 100 } }] }), client).kind).toBe("flat"));
