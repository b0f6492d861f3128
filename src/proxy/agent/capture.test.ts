import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { type CaptureOptions, captureRules, captureUpdate, countRules } from "./capture.ts";

/** Rules of one chain, in order. */
function chain(rules: string, name: string): readonly string[] {
  return rules
    .split("\n")
    .filter((line) => line.startsWith(`-A ${name} `))
    .map((line) => line.slice(name.length + 4));
}

const everything: CaptureOptions = {
  family: 4,
  outbound: { by: "owner", cidrs: "all" },
  inbound: { ports: "all", exclude: [] },
  dns: "all",
};
const byOwner: CaptureOptions = {
  ...everything,
  outbound: { by: "owner", cidrs: "all", excludePorts: [3306] },
  inbound: { ports: "all", exclude: [9090] },
};
const byRange: CaptureOptions = {
  ...everything,
  outbound: { by: "ranges", cidrs: ["240.0.0.0/4"], excludeCidrs: ["10.96.0.0/24"] },
};
const chosen: CaptureOptions = {
  family: 4,
  outbound: {
    by: "owner",
    cidrs: ["10.0.0.0/8", "240.0.0.0/4", "fd00::/8"],
    ports: [8080],
    excludeCidrs: ["10.9.0.0/16"],
    interfaces: ["net1"],
    uid: 2000,
    gid: 3000,
  },
  inbound: { ports: [80, 81], exclude: [9090] },
  dns: ["10.96.0.10", "fd00::a"],
};

test("what the proxy itself sends is let go before everything is captured", () => {
  const rules = chain(captureRules(byOwner), "ISTHMUS_OUTPUT");
  const owner = rules.indexOf("-m owner --uid-owner 1337 -j RETURN");
  expect(owner).toBeGreaterThan(0);
  expect(rules.at(-1)).toBe("-j ISTHMUS_REDIRECT");
  expect(owner).toBeLessThan(rules.length - 1);
});

test("a call of the application to its own service enters by the inbound side", () => {
  const rules = chain(captureRules(byOwner), "ISTHMUS_OUTPUT");
  const own = rules.indexOf("-o lo ! -d 127.0.0.1/32 -p tcp -m owner --uid-owner 1337 -j ISTHMUS_IN_REDIRECT");
  expect(own).toBeGreaterThan(-1);
  expect(own).toBeLessThan(rules.indexOf("-m owner --uid-owner 1337 -j RETURN"));
});

test("ports that are left out are let go first", () => {
  const rules = captureRules(byOwner);
  expect(chain(rules, "ISTHMUS_OUTPUT")[0]).toBe("-p tcp --dport 3306 -j RETURN");
  expect(chain(rules, "ISTHMUS_INBOUND")).toContain("-p tcp --dport 9090 -j RETURN");
  expect(chain(rules, "ISTHMUS_INBOUND").at(-1)).toBe("-p tcp -j ISTHMUS_IN_REDIRECT");
});

test("the proxy's own questions are not answered by itself", () => {
  expect(chain(captureRules(byOwner), "ISTHMUS_DNS")[0]).toBe("-m owner --uid-owner 1337 -j RETURN");
  expect(chain(captureRules(byRange), "ISTHMUS_DNS")[0]).toBe("-d 127.0.0.1/32 -p udp -j REDIRECT --to-ports 15053");
});

test("where owners cannot be told apart only the ranges are captured, without the system's own", () => {
  const rules = captureRules(byRange);
  expect(chain(rules, "ISTHMUS_OUTPUT")).toEqual([
    "-d 10.96.0.0/24 -j RETURN",
    "-d 240.0.0.0/4 -p tcp -j ISTHMUS_REDIRECT",
  ]);
  expect(rules).not.toContain("owner");
});

test("of ranges that are chosen, each protocol's rules have its own, and nothing else is captured", () => {
  const rules = captureRules(chosen);
  expect(chain(rules, "ISTHMUS_OUTPUT").slice(-4)).toEqual([
    "-d 10.9.0.0/16 -j RETURN",
    "-p tcp --dport 8080 -j ISTHMUS_REDIRECT",
    "-d 10.0.0.0/8 -j ISTHMUS_REDIRECT",
    "-d 240.0.0.0/4 -j ISTHMUS_REDIRECT",
  ]);
  expect(chain(rules, "ISTHMUS_DNS").slice(2)).toEqual([
    "-d 10.96.0.10 -p udp -j REDIRECT --to-ports 15053",
    "-d 10.96.0.10 -p tcp -j REDIRECT --to-ports 15053",
  ]);
  const six = captureRules({ ...chosen, family: 6 });
  expect(chain(six, "ISTHMUS_OUTPUT").at(-1)).toBe("-d fd00::/8 -j ISTHMUS_REDIRECT");
  expect(chain(six, "ISTHMUS_DNS").slice(2)).toEqual([
    "-d fd00::a -p udp -j REDIRECT --to-ports 15053",
    "-d fd00::a -p tcp -j REDIRECT --to-ports 15053",
  ]);
  expect(six).not.toMatch(/\d+\.\d+\.\d+\.\d+/);
});

test("of inbound ports that are chosen, these alone are captured, whatever is left out", () => {
  expect(chain(captureRules(chosen), "ISTHMUS_INBOUND")).toEqual([
    "-p tcp --dport 80 -j ISTHMUS_IN_REDIRECT",
    "-p tcp --dport 81 -j ISTHMUS_IN_REDIRECT",
  ]);
});

test("what comes in by a virtual machine's interface goes out, and never in", () => {
  const rules = captureRules(chosen);
  expect(chain(rules, "PREROUTING")).toEqual(["-i net1 -j ISTHMUS_VIRTUAL", "-p tcp -j ISTHMUS_INBOUND"]);
  expect(chain(rules, "ISTHMUS_VIRTUAL").at(-1)).toBe("-j ACCEPT");
});

test("without capture of DNS nothing of port 53 is touched", () => {
  expect(captureRules({ ...everything, dns: "off" })).not.toContain("53");
});

test("an update takes away the jumps that are there, ours alone, and counts what is to be there", () => {
  const saved = [
    "*nat",
    "-A PREROUTING -p tcp -j ISTHMUS_INBOUND",
    "-A OUTPUT -p udp -m udp --dport 53 -j ISTHMUS_DNS",
    "-A OUTPUT -d 192.0.2.1/32 -j SOMEBODY",
    "COMMIT",
  ].join("\n");
  const update = captureUpdate(everything, saved);
  expect(update.split("\n").filter((line) => line.startsWith("-D"))).toEqual([
    "-D PREROUTING -p tcp -j ISTHMUS_INBOUND",
    "-D OUTPUT -p udp -m udp --dport 53 -j ISTHMUS_DNS",
  ]);
  expect(countRules(saved)).toEqual(
    new Map([
      ["PREROUTING", 1],
      ["OUTPUT", 1],
    ]),
  );
  expect(countRules(update).get("OUTPUT")).toBe(3);
});

for (const family of [4, 6] as const) {
  const command = family === 4 ? "iptables-restore" : "ip6tables-restore";
  const parser = spawnSync(command, ["--test"], { input: "*nat\nCOMMIT\n" });
  for (const [name, options] of Object.entries({ byOwner, byRange, chosen })) {
    test.skipIf(parser.status !== 0)(`the rules ${name} for IPv${family} are ones that ${command} can read`, () => {
      const input = captureRules({ ...options, family });
      const { status, stderr } = spawnSync(command, ["--test"], { input, encoding: "utf8" });
      expect(`${status} ${stderr}`).toBe("0 ");
    });
  }
}
