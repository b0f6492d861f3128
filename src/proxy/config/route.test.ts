import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { RouteConfigurationSchema } from "../../proto/gen/envoy/config/route/v3/route_pb.js";
import { HttpConnectionManagerSchema } from "../../proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { readHttpManager } from "./http-manager.ts";
import { formatRefusals, Place } from "./reading.ts";
import { readRouteConfiguration } from "./route-table.ts";

type Given = MessageInitShape<typeof RouteConfigurationSchema>;
type RouteGiven = NonNullable<NonNullable<Given["virtualHosts"]>[number]["routes"]>[number];

const refusals = (given: Given) => {
  const place = new Place();
  readRouteConfiguration(create(RouteConfigurationSchema, given), place);
  return formatRefusals(place.refusals);
};
const match = { pathSpecifier: { case: "prefix", value: "/" } } as const;
const forward = (value: object) => ({
  match,
  action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: "c" }, ...value } },
});
const of = (...routes: object[]): Given => ({
  name: "t",
  virtualHosts: [{ name: "h", domains: ["*"], routes: routes as RouteGiven[] }],
});

const rows: ReadonlyArray<readonly [it: string, given: Given, expected: string]> = [
  ["a route without an action", of({ match }), "virtual_hosts[0].routes[0]: has no route, redirect or direct_response"],
  [
    "a route without a match",
    of({ action: { case: "directResponse", value: { status: 200 } } }),
    "virtual_hosts[0].routes[0].match: is missing",
  ],
  [
    "a regex that looks ahead",
    of({ ...forward({}), match: { pathSpecifier: { case: "safeRegex", value: { regex: "/a(?=b)" } } } }),
    'virtual_hosts[0].routes[0].match.safe_regex.regex: "/a(?=b)" looks around or back, which the protocol\'s regexes cannot',
  ],
  [
    "a retry word that is none",
    of(forward({ retryPolicy: { retryOn: "5xx,always" } })),
    'virtual_hosts[0].routes[0].route.retry_policy.retry_on: "always" is no condition; there are ',
  ],
  [
    "clusters without weight",
    of(forward({ clusterSpecifier: { case: "weightedClusters", value: { clusters: [{ name: "c" }] } } })),
    "weighted_clusters: have no weight",
  ],
  [
    "a field that frames messages",
    of({ ...forward({}), requestHeadersToAdd: [{ header: { key: "Content-Length", value: "1" } }] }),
    'request_headers_to_add[0].header.key: "content-length" cannot be set',
  ],
  [
    "a value with a line break",
    of({ ...forward({}), responseHeadersToAdd: [{ header: { key: "a", value: "b\r\nc: d" } }] }),
    "response_headers_to_add[0].header.value: has control characters",
  ],
  [
    "what is not built",
    of(forward({ hedgePolicy: {} })),
    "virtual_hosts[0].routes[0].route.hedge_policy: is not known",
  ],
  [
    "a filter of a route that is not built",
    of({ ...forward({}), typedPerFilterConfig: { "envoy.filters.http.lua": { typeUrl: "x" } } }),
    'typed_per_filter_config["envoy.filters.http.lua"]: is not known',
  ],
  [
    "a direct response of 99",
    of({ match, action: { case: "directResponse", value: { status: 99 } } }),
    "direct_response.status: must be between 200 and 599, got 99",
  ],
  [
    "a direct response that is longer than the table allows",
    of({
      match,
      action: {
        case: "directResponse",
        value: { status: 200, body: { specifier: { case: "inlineBytes", value: new Uint8Array(4097) } } },
      },
    }),
    "direct_response.body: is 4097 bytes long, at most 4096 are allowed",
  ],
  [
    "a domain of two virtual hosts",
    {
      name: "t",
      virtualHosts: [
        { name: "a", domains: ["X.y"] },
        { name: "b", domains: ["x.Y"] },
      ],
    },
    'virtual_hosts[1].domains[0]: "x.Y" is there twice',
  ],
  [
    "a name of two virtual hosts",
    {
      name: "t",
      virtualHosts: [
        { name: "a", domains: ["x"] },
        { name: "a", domains: ["y"] },
      ],
    },
    'virtual_hosts[1].name: "a" is there twice',
  ],
];

describe("a route configuration is refused, with its place, for", () => {
  for (const [it, given, expected] of rows) test(it, () => expect(refusals(given)).toContain(expected));

  test("nothing, where the table allows a longer direct response", () => {
    const body = { specifier: { case: "inlineBytes", value: new Uint8Array(4097) } };
    const given = of({ match, action: { case: "directResponse", value: { status: 200, body } } });
    expect(refusals({ ...given, maxDirectResponseBodySizeBytes: 5000 })).toBe("");
  });

  test("all that is wrong with it at once", () => {
    const both = refusals(of({ match }, forward({ retryPolicy: { retryOn: "no" } })));
    expect(both).toContain("routes[0]");
    expect(both).toContain("routes[1]");
  });
});

describe("an HTTP connection manager is refused, with its place, for", () => {
  const managerRefusals = (given: MessageInitShape<typeof HttpConnectionManagerSchema>) => {
    const place = new Place();
    readHttpManager(create(HttpConnectionManagerSchema, given), place);
    return formatRefusals(place.refusals);
  };
  test("filters and routes that are missing or not built", () => {
    expect(managerRefusals({})).toContain("no route specifier is not known; use rds or route_config");
    expect(managerRefusals({})).toContain("http_filters: must end with the router");
    const lua = managerRefusals({
      httpFilters: [{ name: "lua", configType: { case: "typedConfig", value: { typeUrl: "a/x.Lua" } } }],
    });
    expect(lua).toContain('http_filters[0].typed_config: "a/x.Lua" is not known');
  });
  test("HTTP/3, and CONNECT", () => {
    expect(managerRefusals({ codecType: 3 })).toContain("codec_type: HTTP3 is not known");
    expect(managerRefusals({ upgradeConfigs: [{ upgradeType: "CONNECT" }] })).toContain(
      "upgrade_configs[0].upgrade_type",
    );
  });
});
