import { expect, test } from "vitest";
import { judgeGateway } from "./gateway-proof.ts";

const identity = "spiffe://cluster.local/ns/isthmus-system/sa/gateway";
const certs = JSON.stringify({ certificates: [{ identity }] });
const listener = (chain: object) => ({ type: "x.Listener", name: "l", resource: { filterChains: [chain] } });
const dump = (...resources: readonly object[]) => JSON.stringify(resources);
const passing = listener({ filters: [] });

const rows = [
  { it: "its own certificate, and chains that pass on", certs, dump: dump(passing), holds: [true, true] },
  {
    it: "another's certificate beside its own",
    certs: JSON.stringify({ certificates: [{ identity }, { identity: "spiffe://cluster.local/ns/bar/sa/httpbin" }] }),
    dump: dump(passing),
    holds: [false, true],
  },
  { it: "a chain that ends TLS", certs, dump: dump(passing, listener({ transportSocket: {} })), holds: [true, false] },
  { it: "a secret", certs, dump: dump(passing, { type: "x.Secret", name: "s" }), holds: [true, false] },
  { it: "no listener yet", certs, dump: dump(), holds: [true, false] },
  { it: "no answer", certs: "it does not listen yet", dump: "", holds: [false, false] },
];
for (const row of rows) {
  test(`${row.it}: ${row.holds.join(" and ")}`, () => {
    expect(judgeGateway({ ...row, identity }).map(({ holds }) => holds)).toEqual(row.holds);
  });
}
