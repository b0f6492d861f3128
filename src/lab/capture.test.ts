import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { captureRules, outerRules, routerRules } from "./capture.ts";

/** Rules of one chain, in order. */
function chain(rules: string, name: string): readonly string[] {
  return rules
    .split("\n")
    .filter((line) => line.startsWith(`-A ${name} `))
    .map((line) => line.slice(name.length + 4));
}

const byOwner = captureRules({
  outbound: { by: "owner", excludePorts: [3306] },
  dns: true,
  excludeInboundPorts: [9090],
});
const byRange = captureRules({
  outbound: { by: "ranges", cidrs: ["240.0.0.0/4"], excludeCidrs: ["10.96.0.0/24"] },
  dns: true,
});

test("what the proxy itself sends is let go before everything is captured", () => {
  const rules = chain(byOwner, "ISTHMUS_OUTPUT");
  const owner = rules.indexOf("-m owner --uid-owner 1337 -j RETURN");
  expect(owner).toBeGreaterThan(0);
  expect(rules.at(-1)).toBe("-j ISTHMUS_REDIRECT");
  expect(owner).toBeLessThan(rules.length - 1);
});

test("a call of the application to its own service enters by the inbound side", () => {
  const rules = chain(byOwner, "ISTHMUS_OUTPUT");
  const own = rules.indexOf("-o lo ! -d 127.0.0.1/32 -p tcp -m owner --uid-owner 1337 -j ISTHMUS_IN_REDIRECT");
  expect(own).toBeGreaterThan(-1);
  expect(own).toBeLessThan(rules.indexOf("-m owner --uid-owner 1337 -j RETURN"));
});

test("ports that are left out are let go first", () => {
  expect(chain(byOwner, "ISTHMUS_OUTPUT")[0]).toBe("-p tcp --dport 3306 -j RETURN");
  expect(chain(byOwner, "ISTHMUS_INBOUND")).toContain("-p tcp --dport 9090 -j RETURN");
  expect(chain(byOwner, "ISTHMUS_INBOUND").at(-1)).toBe("-p tcp -j ISTHMUS_IN_REDIRECT");
});

test("the proxy's own questions are not answered by itself", () => {
  expect(chain(byOwner, "ISTHMUS_DNS")[0]).toBe("-m owner --uid-owner 1337 -j RETURN");
  expect(chain(byRange, "ISTHMUS_DNS")[0]).toBe("-d 127.0.0.1/32 -p udp -j REDIRECT --to-ports 15053");
});

test("where owners cannot be told apart only the ranges are captured, without the system's own", () => {
  expect(chain(byRange, "ISTHMUS_OUTPUT")).toEqual([
    "-d 10.96.0.0/24 -j RETURN",
    "-d 240.0.0.0/4 -p tcp -j ISTHMUS_REDIRECT",
  ]);
  expect(byRange).not.toContain("owner");
});

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

const parser = spawnSync("iptables-restore", ["--test"], { input: "*nat\nCOMMIT\n" });
for (const [name, rules] of [
  ["by owner", byOwner],
  ["by range", byRange],
] as const) {
  test.skipIf(parser.status !== 0)(`the rules ${name} are ones that iptables-restore can read`, () => {
    const { status, stderr } = spawnSync("iptables-restore", ["--test"], { input: rules, encoding: "utf8" });
    expect(`${status} ${stderr}`).toBe("0 ");
  });
}

test("a gateway's outside address leads from the Service's ports to the pod's", () => {
  expect(outerRules([{ port: 443, to: 8443 }]).split("\n")).toContain(
    "-A PREROUTING -i wan0 -p tcp --dport 443 -j REDIRECT --to-ports 8443",
  );
});
