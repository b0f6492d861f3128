import { type Clock, explain, Failure, type Logger, type Scope, sleep } from "../../../src/base/index.ts";
import type { KubeClient } from "../../../src/kube/index.ts";
import { kubeletPort } from "./addresses.ts";
import { time } from "./pod-status.ts";

/** How often the node says that it is there; who watches over nodes waits several times as long. */
const leaseMs = 10_000;
const retryMs = 500;

/** Makes the Node known, and keeps its Lease. Resolves when the API has it. */
export async function registerNode(
  options: {
    readonly client: KubeClient;
    readonly name: string;
    readonly ip: string;
    readonly clock: Clock;
    readonly log: Logger;
  },
  scope: Scope,
): Promise<void> {
  const { client, name, clock, log } = options;
  const { gitVersion } = await untilAnswered(
    () => client.json<{ gitVersion: string }>({ path: "/version" }),
    options,
    scope,
  );
  const node = nodeObject(options, gitVersion);
  await untilAnswered(() => create(client, "/api/v1/nodes", node), options, scope);
  // Whoever admits nodes may have marked it as one that is not ready, which nobody here would take back.
  const patch = (path: string, body: object) =>
    client.json({ method: "PATCH", path, contentType: "application/merge-patch+json", body });
  await untilAnswered(() => patch(`/api/v1/nodes/${name}`, { spec: { taints: null } }), options, scope);
  await untilAnswered(() => patch(`/api/v1/nodes/${name}/status`, { status: node.status }), options, scope);
  const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
  const renewTime = () => `${time(clock.now()).slice(0, -1)}.000000Z`;
  void (async () => {
    while (!scope.closed) {
      try {
        const spec = { holderIdentity: name, leaseDurationSeconds: 40, renewTime: renewTime() };
        const made = await create(
          client,
          leases,
          { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name }, spec },
          true,
        );
        if (!made) await patch(`${leases}/${name}`, { spec });
      } catch (caught) {
        log.debug({ error: explain(caught) }, "the node's lease was not renewed");
      }
      await sleep(clock, leaseMs, scope.signal).catch(() => {});
    }
  })();
}

/** Whether it was made; false when there was one. */
async function create(client: KubeClient, path: string, body: object, lookFirst = false): Promise<boolean> {
  if (lookFirst) {
    const { name } = (body as { metadata: { name: string } }).metadata;
    const there = await client.json({ path: `${path}/${name}` }).then(
      () => true,
      (caught) => {
        if (caught instanceof Failure && caught.code === "kube/not-found") return false;
        throw caught;
      },
    );
    if (there) return false;
  }
  try {
    await client.json({ method: "POST", path, body });
    return true;
  } catch (caught) {
    if (caught instanceof Failure && caught.code === "kube/conflict") return false;
    throw caught;
  }
}

async function untilAnswered<T>(
  ask: () => Promise<T>,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
  scope: Scope,
): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (caught) {
      log.debug({ error: explain(caught) }, "the API server does not answer yet");
      await sleep(clock, retryMs, scope.signal);
    }
  }
}

function nodeObject(
  { name, ip, clock }: { readonly name: string; readonly ip: string; readonly clock: Clock },
  version: string,
) {
  const now = time(clock.now());
  const room = { cpu: "16", memory: "64Gi", pods: "500", "ephemeral-storage": "100Gi" };
  const condition = (type: string, status: "True" | "False", reason: string) => ({
    type,
    status,
    reason,
    message: "the test node says so",
    lastHeartbeatTime: now,
    lastTransitionTime: now,
  });
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name,
      labels: {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": process.arch === "x64" ? "amd64" : process.arch,
        "topology.kubernetes.io/region": "test",
        "topology.kubernetes.io/zone": "test-a",
      },
    },
    spec: {},
    status: {
      capacity: room,
      allocatable: room,
      addresses: [
        { type: "InternalIP", address: ip },
        { type: "ExternalIP", address: ip },
        { type: "Hostname", address: name },
      ],
      daemonEndpoints: { kubeletEndpoint: { Port: kubeletPort } },
      conditions: [
        condition("Ready", "True", "KubeletReady"),
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID"),
      ],
      nodeInfo: {
        machineID: name,
        systemUUID: name,
        bootID: name,
        kernelVersion: "test",
        osImage: "processes in network namespaces",
        containerRuntimeVersion: "processes://1",
        kubeletVersion: version,
        kubeProxyVersion: version,
        operatingSystem: "linux",
        architecture: process.arch === "x64" ? "amd64" : process.arch,
      },
    },
  };
}
