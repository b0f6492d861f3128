import { expect, test } from "vitest";
import { accessLines, findCrossing, hopLines, promises } from "./story.ts";

const sni = "outbound_.8000_._.httpbin.bar.global";
const caller = "spiffe://cluster.local/ns/foo/sa/sleep";
const httpbin = "spiffe://cluster.local/ns/bar/sa/httpbin";
const client = {
  upstream_cluster: "outbound|8000||httpbin.bar.global",
  x_request_id: "r1",
  upstream_local_address: "10.244.0.11:40001",
  upstream_peer_uri_san: httpbin,
};
const gateway = { upstream_cluster: "g", downstream_remote_address: "172.30.1.1:40001", requested_server_name: sni };
const server = {
  upstream_cluster: "inbound|80||",
  x_request_id: "r1",
  requested_server_name: sni,
  downstream_peer_uri_san: caller,
  downstream_tls_version: "TLSv1.3",
};
const expected = { sni, caller, server: httpbin };

test("events and half lines among the access log are passed over", () => {
  const text = `{"event":"listener bound"}\nplain\n${JSON.stringify({ ...gateway, sni: null })}\n{"upstream_cl`;
  expect(accessLines(text)).toEqual([{ ...gateway, sni: "-" }]);
});

test("a gateway's line is found by the port that the client's sidecar sent from, also behind address translation", () => {
  const other = { ...gateway, downstream_remote_address: "172.30.1.1:40002" };
  const crossing = findCrossing({ requestId: "r1", client: [client], gateway: [gateway, other], server: [server] });
  expect(crossing).toEqual({ client, gateway, server });
  expect("client" in crossing && promises(crossing, expected).every(({ holds }) => holds)).toBe(true);
  expect("client" in crossing && hopLines(crossing, { host: "h", vip: "v", app: "a" })).toHaveLength(5);
});

test("a call that left no line says which proxy has none", () => {
  expect(findCrossing({ requestId: "r2", client: [client], gateway: [], server: [] })).toEqual({
    missing: "the client's sidecar has no line for request r2",
  });
});

const broken = [
  { it: "an older TLS", crossing: { client, gateway, server: { ...server, downstream_tls_version: "TLSv1.1" } } },
  { it: "another caller", crossing: { client, gateway, server: { ...server, downstream_peer_uri_san: httpbin } } },
  { it: "another server", crossing: { client: { ...client, upstream_peer_uri_san: caller }, gateway, server } },
  { it: "a gateway that saw a request", crossing: { client, gateway: { ...gateway, method: "GET" }, server } },
  { it: "another server name", crossing: { client, gateway: { ...gateway, requested_server_name: "x" }, server } },
];
for (const { it, crossing } of broken) {
  test(`${it} breaks exactly one promise`, () => {
    expect(promises(crossing, expected).filter(({ holds }) => !holds)).toHaveLength(1);
  });
}
