import { expect, test } from "vitest";
import { outerRules, routerRules } from "./router-rules.ts";

/** Rules of one chain, in order. */
function chain(rules: string, name: string): readonly string[] {
  return rules
    .split("\n")
    .filter((line) => line.startsWith(`-A ${name} `))
    .map((line) => line.slice(name.length + 4));
}

test("nothing from outside gets to pods but node ports", () => {
  const rules = routerRules({
    podCidr: "10.244.0.0/16",
    serviceCidr: "10.96.0.0/16",
    nodePorts: [{ port: 31443, to: "10.244.0.9:15443" }],
    services: [],
  });
  expect(rules).toContain(":FORWARD DROP");
  expect(rules).toContain("-A FORWARD -i wan0 -o br0 -m conntrack --ctstate DNAT -j ACCEPT");
  expect(rules).toContain("-A PREROUTING -i wan0 -p tcp --dport 31443 -j DNAT --to-destination 10.244.0.9:15443");
});

test("an address of a service behind which nobody stands is refused at once, after what is established", () => {
  const rules = chain(
    routerRules({ podCidr: "10.244.0.0/16", serviceCidr: "10.96.0.0/16", nodePorts: [], services: [] }),
    "FORWARD",
  );
  const refused = rules.indexOf("-i br0 -d 10.96.0.0/16 -p tcp -j REJECT --reject-with tcp-reset");
  expect(refused).toBeGreaterThan(rules.findIndex((rule) => rule.includes("ESTABLISHED")));
  expect(refused).toBeLessThan(rules.indexOf("-i br0 -o br0 -j ACCEPT"));
});

test("a service's calls are spread evenly: the last pod takes what the others left", () => {
  const to = ["10.244.0.10:80", "10.244.0.11:80", "10.244.0.12:80"];
  const rules = routerRules({
    podCidr: "10.244.0.0/16",
    serviceCidr: "10.96.0.0/16",
    nodePorts: [],
    services: [{ ip: "10.96.1.1", port: 8000, protocol: "tcp", to }],
  });
  const shares = rules
    .split("\n")
    .filter((line) => line.includes("10.96.1.1"))
    .map((line) => /probability (\S+)/.exec(line)?.[1]);
  expect(shares).toEqual(["0.333333", "0.500000", undefined]);
});

test("a gateway's outside address leads from the Service's ports to the pod's", () => {
  expect(outerRules([{ port: 443, to: 8443 }]).split("\n")).toContain(
    "-A PREROUTING -i wan0 -p tcp --dport 443 -j REDIRECT --to-ports 8443",
  );
});
