import { describe, expect, test } from "vitest";
import type { Ip, SpiffeId } from "../../values/index.ts";
import type { Connection, PeerCertificate } from "../l4/connection.ts";
import { forwardHeaders, forwardingOf } from "./forwarding.ts";
import { headerValue } from "./headers.ts";
import { managerOf } from "./testing/rig.ts";

const uri = "spiffe://cluster.local/ns/foo/sa/sleep";
const peer: PeerCertificate = {
  identity: uri as SpiffeId,
  uris: [uri],
  dnsNames: ["sleep.foo"],
  subject: "",
  sha256: "ab12",
};
const connection = (mtls: boolean): Connection => ({
  id: 1,
  socket: undefined as never,
  remote: { ip: "10.1.2.3" as Ip, port: 1 },
  destination: { ip: "10.1.2.4" as Ip, port: 80 },
  listener: "l",
  tls: mtls
    ? {
        sni: undefined,
        alpn: undefined,
        version: "TLSv1.3",
        peer,
        localUris: ["spiffe://cluster.local/ns/bar/sa/httpbin"],
      }
    : undefined,
  sni: undefined,
  startedMs: 0,
  draining: new AbortController().signal,
  signal: new AbortController().signal,
});

function forwarded(mtls: boolean, manager: ReturnType<typeof managerOf>, given: string[]): string[] {
  const from = connection(mtls);
  const headers = [...given];
  forwardHeaders(headers, from, manager, forwardingOf(from, manager));
  return headers;
}
const details = { uri: true, dns: true };
const own = `By=spiffe://cluster.local/ns/bar/sa/httpbin;Hash=ab12;Subject="";URI=${uri};DNS=sleep.foo`;

describe("x-forwarded-client-cert", () => {
  const claim = ["x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/x/sa/admin"];
  const rows = [
    ["SANITIZE", 0, true, undefined],
    ["FORWARD_ONLY", 1, true, claim[1]],
    ["APPEND_FORWARD", 2, true, `${claim[1]},${own}`],
    ["SANITIZE_SET", 3, true, own],
    ["ALWAYS_FORWARD_ONLY", 4, false, claim[1]],
    ["APPEND_FORWARD", 2, false, undefined],
    ["FORWARD_ONLY", 1, false, undefined],
    ["SANITIZE_SET", 3, false, undefined],
  ] as const;
  for (const [mode, forwardClientCertDetails, mtls, expected] of rows) {
    test(`of a client's claim, ${mode} ${mtls ? "with" : "without"} a certificate, becomes ${expected}`, () => {
      const manager = managerOf({
        forwardClientCertDetails,
        setCurrentClientCertDetails: { ...details, subject: true },
      });
      expect(headerValue(forwarded(mtls, manager, claim), "x-forwarded-client-cert")).toBe(expected);
    });
  }
});

describe("the other trust headers", () => {
  test("are believed inside the mesh", () => {
    const headers = forwarded(false, managerOf(), [
      "x-request-id",
      "me",
      "x-forwarded-proto",
      "https",
      "x-envoy-x",
      "1",
    ]);
    expect(headers).toEqual(["x-request-id", "me", "x-forwarded-proto", "https", "x-envoy-x", "1"]);
  });

  test("are written anew at the edge", () => {
    const manager = managerOf({ useRemoteAddress: true });
    const headers = forwarded(false, manager, [
      "x-request-id",
      "me",
      "x-forwarded-proto",
      "https",
      "x-envoy-retry-on",
      "5xx",
      "x-b3-traceid",
      "1",
      "x-forwarded-for",
      "1.1.1.1",
    ]);
    expect(headerValue(headers, "x-forwarded-proto")).toBe("http");
    expect(headerValue(headers, "x-forwarded-for")).toBe("1.1.1.1,10.1.2.3");
    expect(headerValue(headers, "x-envoy-retry-on")).toBeUndefined();
    expect(headerValue(headers, "x-b3-traceid")).toBeUndefined();
    expect(headerValue(headers, "x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
  });
});
