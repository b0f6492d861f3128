import { mkdirSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import type { AgentConfig } from "../../proxy/index.ts";
import { type Hostname, parseSpiffeId } from "../../values/index.ts";
import { entry, type Folders, folders, loopback, root, serverName, tokenFile } from "./scene.ts";

/** Folders of a control plane with one entry, and what an agent of foo/sleep needs beside it. */
export async function prepared() {
  const at = folders();
  mkdirSync(at.config);
  writeFileSync(join(at.config, "entry.yaml"), entry({ host: "httpbin.bar.global", vip: "240.0.0.2" }));
  writeFileSync(join(at.dir, "root-cert.pem"), root["root-cert.pem"]);
  const token = await tokenFile(at, { namespace: "foo", serviceAccount: "sleep" });
  return { at, token, socket: join(at.dir, "agent.sock") };
}

/** A sidecar of foo/sleep whose control plane is on loopback. */
export function agentConfig(of: {
  readonly at: Folders;
  readonly port: number;
  readonly token: string;
  readonly socket: string;
  readonly stateDir?: string;
  readonly more?: Partial<AgentConfig>;
}): AgentConfig {
  return {
    node: {
      type: "sidecar",
      ip: loopback,
      pod: "sleep-1",
      namespace: "foo",
      serviceAccount: "sleep",
      cluster: "cluster1",
      clusterDomain: "cluster.local" as Hostname,
      labels: { app: "sleep" },
      network: undefined,
      networkView: undefined,
      interception: "NONE",
      appPorts: undefined,
      explicitPort: undefined,
      version: "0.0.0",
    },
    identity: {
      discovery: `127.0.0.1:${of.port}`,
      serverName,
      rootCertFile: join(of.at.dir, "root-cert.pem"),
      tokenFile: of.token,
      clusterId: "cluster1",
      expected: parseSpiffeId("spiffe://cluster.local/ns/foo/sa/sleep"),
    },
    admin: [{ path: of.socket }],
    captured: [],
    dns: undefined,
    ...(of.stateDir === undefined ? {} : { stateDir: of.stateDir }),
    ...of.more,
  };
}

/** A path of the agent's admin API. */
export function ask(
  socketPath: string,
  path: string,
): Promise<{ readonly status: number | undefined; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => resolve({ status: response.statusCode, text }));
    });
    call.on("error", reject).end();
  });
}
