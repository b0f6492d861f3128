import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { afterEach, expect, test } from "vitest";
import { scratchDir } from "../testing/index.ts";
import { type AgentFlags, agentConfigFrom, withAgentOptions } from "./agent-flags.ts";

const needed = {
  "--node-ip": "10.1.2.3",
  "--pod": "sleep-1",
  "--namespace": "foo",
  "--service-account": "sleep",
  "--cluster": "c",
  "--discovery": "isthmus.isthmus-system.svc:15012",
  "--root-cert": "root-cert.pem",
  "--token": "token",
};

function configFrom(args: readonly string[]) {
  const command = withAgentOptions(new Command("proxy"));
  command.parse([...Object.entries(needed).flat(), ...args], { from: "user" });
  return agentConfigFrom(command.opts<AgentFlags>());
}

const variable = "ISTIO_KUBE_APP_PROBERS";
afterEach(() => {
  delete process.env[variable];
});

test("labels of the pod are those of the file, below those of the option", () => {
  const file = join(scratchDir(), "labels");
  writeFileSync(file, 'app="sleep"\nversion="v1"\n');
  expect(configFrom(["--labels-file", file, "--labels", "version=v2"]).node.labels).toEqual({
    app: "sleep",
    version: "v2",
  });
  writeFileSync(file, "app=sleep\n");
  expect(() => configFrom(["--labels-file", file])).toThrow(/line 1 is not KEY="VALUE"/);
  expect(() => configFrom(["--labels-file", `${file}-none`])).toThrow(/cannot read/);
});

test("the cluster's own domain is cluster.local unless told otherwise", () => {
  expect(configFrom([]).node.clusterDomain).toBe("cluster.local");
  expect(configFrom(["--cluster-domain", "Example.internal"]).node.clusterDomain).toBe("example.internal");
  for (const wrong of ["", "*.internal", "a..b"])
    expect(() => configFrom(["--cluster-domain", wrong])).toThrow(/--cluster-domain: ".*" is no DNS name/);
});

test("who may ask from outside the pod, and what is asked of the application", () => {
  expect(configFrom([]).podServers).toEqual({ probers: new Map() });
  process.env[variable] = '{"/app-health/a/livez": {"tcpSocket": {"port": 80}}}';
  expect(configFrom(["--status", "0.0.0.0:15020", "--health", "0.0.0.0"]).podServers).toEqual({
    status: { host: "0.0.0.0", port: 15020 },
    health: { host: "0.0.0.0", port: 15021 },
    probers: new Map([["/app-health/a/livez", { by: "tcp", port: 80, timeoutMs: 1000 }]]),
  });
  process.env[variable] = "{";
  expect(() => configFrom([])).toThrow(/ISTIO_KUBE_APP_PROBERS: not JSON/);
});

test("name servers and search domains are those of the options, or of every program in the pod but loopback", () => {
  expect(configFrom([]).dns).toBeUndefined();
  const own = configFrom([
    "--dns-listen",
    "127.0.0.1:15053",
    "--dns-upstream",
    "10.96.0.10",
    "--dns-search",
    "a.b,c",
  ]).dns;
  expect(own).toEqual({
    listen: { ip: "127.0.0.1", port: 15053 },
    forwardTo: [{ ip: "10.96.0.10", port: 53 }],
    searches: ["a.b", "c"],
  });
  const found = configFrom(["--dns-listen", "127.0.0.1:15053"]).dns;
  for (const { ip, port } of found?.forwardTo ?? []) {
    expect(ip.startsWith("127.")).toBe(false);
    expect(port).toBe(53);
  }
});
