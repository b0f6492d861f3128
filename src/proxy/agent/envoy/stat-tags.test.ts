import { expect, test } from "vitest";
import { ownTags } from "./stat-tags.ts";

const remote = "outbound|8000||httpbin.bar.global";
const odd = "outbound|443|v2|ssl.internal.version.example.com";
const rows = [
  { tag: "envoy.cluster_name", stat: `cluster.${remote}.upstream_cx_total`, label: remote },
  { tag: "envoy.cluster_name", stat: `cluster.${remote}.external.upstream_rq_200`, label: remote },
  { tag: "envoy.cluster_name", stat: `cluster.${remote}.circuit_breakers.default.cx_open`, label: remote },
  { tag: "envoy.cluster_name", stat: `cluster.${remote}.ssl.versions.TLSv1.3`.replace("1.3", "1_3"), label: remote },
  { tag: "envoy.cluster_name", stat: `cluster.${odd}.ssl.handshake`, label: odd },
  { tag: "envoy.cluster_name", stat: `cluster.${odd}.upstream_rq_time`, label: odd },
  { tag: "envoy.cluster_name", stat: `cluster.${odd}.version`, label: odd },
  { tag: "envoy.cluster_name", stat: "cluster.inbound|8000||.membership_total", label: "inbound|8000||" },
  {
    tag: "envoy.cluster_name",
    stat: "cluster.outbound_.8000_.v2_.httpbin.bar.global.http2.tx_reset",
    label: "outbound_.8000_.v2_.httpbin.bar.global",
  },
  { tag: "envoy.cluster_name", stat: "cluster.xds-grpc.bind_errors", label: "xds-grpc" },
  {
    tag: "envoy.http_conn_manager_prefix",
    stat: "http.outbound_240.0.0.2_8000.downstream_rq_2xx",
    label: "outbound_240.0.0.2_8000",
  },
  { tag: "envoy.rds_route_config", stat: "http.outbound_0.0.0.0_8000.rds.8000.update_success", label: "8000" },
] as const;
for (const { tag, stat, label } of rows) {
  test(`"${stat}" counts for "${label}"`, () => expect(new RegExp(ownTags[tag]).exec(stat)?.[2]).toBe(label));
}

test("what counts for all clusters together counts for none of them", () => {
  expect(new RegExp(ownTags["envoy.cluster_name"]).exec("cluster_manager.cds.update_success")).toBeNull();
});
