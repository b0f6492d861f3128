import { request } from "node:http";
import type { LabStatus } from "../../src/lab/index.ts";
import { askLab } from "../../src/lab/protocol.ts";

/** One question to a program's admin socket; status 0 when nothing answered. */
export function ask(
  socketPath: string,
  method: "GET" | "POST",
  path: string,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const call = request({ socketPath, method, path, timeout: 5_000, headers: { host: "admin" } }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      response.on("error", (error) => resolve({ status: 0, text: error.message }));
    });
    call.on("timeout", () => call.destroy(new Error("nothing within 5 s")));
    call.on("error", (error) => resolve({ status: 0, text: error.message }));
    call.end();
  });
}

interface Connection {
  readonly proxy: string;
  readonly settled: boolean;
  readonly connectedAt: string;
}

/** A proxy that has just come asks for one thing after the other, and seems to have it all in between. */
const asksForMs = 4_000;

/** What keeps the proxies from running what the control planes were told; undefined when all of them do. */
export async function unsettled(lab: string, connectionsOf: (pod: Pod) => number): Promise<string | undefined> {
  const status = await askLab(lab, { op: "status" });
  for (const cluster of status.clusters) {
    const { admin } = cluster.controlPlane;
    const read = await ask(admin, "POST", "/debug/read-now");
    if (read.status !== 200) return `control plane of ${cluster.name}: ${read.text.slice(0, 100)}`;
    const told = await ask(admin, "GET", "/debug/syncz");
    if (told.status !== 200) return `control plane of ${cluster.name}: ${told.text.slice(0, 100)}`;
    const connections = JSON.parse(told.text) as readonly Connection[];
    for (const pod of podsOf(status, cluster.name)) {
      const own = connections.filter(({ proxy }) => proxy.split("~")[2] === `${pod.name}.${pod.namespace}`);
      if (own.length < connectionsOf(pod)) return `${pod.name} is not connected`;
      if (own.some(({ settled }) => !settled)) return `${pod.name} has not taken everything`;
      if (own.some(({ connectedAt }) => Date.now() - Date.parse(connectedAt) < asksForMs))
        return `${pod.name} has only just connected`;
    }
  }
  return undefined;
}

export interface Pod {
  readonly cluster: string;
  readonly name: string;
  readonly namespace: string;
  readonly workload: string;
  readonly gateway: boolean;
  readonly ready: boolean;
  readonly restarts: number;
}

/** Pods with a proxy that are not about to go. */
export function podsOf(status: LabStatus, cluster: string): readonly Pod[] {
  const found = status.clusters.find(({ name }) => name === cluster);
  return (found?.pods ?? [])
    .filter(({ injected, wanIp, phase }) => (injected || wanIp !== undefined) && phase !== "Terminating")
    .map(({ name, namespace, workload, wanIp, ready, restarts }) => ({
      cluster,
      name,
      namespace,
      workload,
      gateway: wanIp !== undefined,
      ready,
      restarts,
    }));
}
