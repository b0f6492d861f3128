import { expect, test } from "vitest";
import { installClusterDns } from "./install.ts";
import { isRolledOut } from "./restart.ts";
import { coreDnsCluster, kubeadmCorefile } from "./testdata/fake-cluster.ts";

const wish = {
  domains: ["global"],
  ips: undefined,
  form: undefined,
  version: undefined,
  nodeLocal: false,
  replace: false,
  complete: false,
  force: false,
  dryRun: false,
  waitMs: 0,
};

test("a DNS that reads its file at the start alone is started anew when that is asked for, and only then", async () => {
  const cluster = coreDnsCluster({ corefile: kubeadmCorefile.replace("    reload\n", "") });
  const deployment = () => cluster.get("Deployment", "kube-system/coredns")!;
  cluster.put({ ...deployment(), status: { replicas: 2, updatedReplicas: 2, availableReplicas: 2 } });
  const restarted = () => JSON.stringify(deployment()).includes("restartedAt");
  const told = await installClusterDns({ ...wish, restart: false }, cluster.deps);
  expect(told.written[0]!.loading).toEqual({ kind: "restart", why: "its Corefile has no `reload`" });
  expect(restarted()).toBe(false);
  await installClusterDns({ ...wish, domains: ["mesh.example"], restart: true }, cluster.deps);
  expect(restarted()).toBe(true);
});

const cases: ReadonlyArray<readonly [what: string, object: Parameters<typeof isRolledOut>[0], out: boolean]> = [
  ["not seen by its controller yet", { metadata: { generation: 2 }, status: { observedGeneration: 1 } }, false],
  [
    "an old pod is there still",
    { metadata: {}, spec: { replicas: 2 }, status: { replicas: 3, updatedReplicas: 2, availableReplicas: 3 } },
    false,
  ],
  [
    "a new pod is not available",
    { metadata: {}, spec: { replicas: 2 }, status: { replicas: 2, updatedReplicas: 2, availableReplicas: 1 } },
    false,
  ],
  [
    "done",
    { metadata: {}, spec: { replicas: 2 }, status: { replicas: 2, updatedReplicas: 2, availableReplicas: 2 } },
    true,
  ],
  [
    "a DaemonSet, half",
    { metadata: {}, status: { desiredNumberScheduled: 2, updatedNumberScheduled: 1, numberAvailable: 2 } },
    false,
  ],
  [
    "a DaemonSet, done",
    { metadata: {}, status: { desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 2 } },
    true,
  ],
];
for (const [what, object, out] of cases) test(`rolled out: ${what}`, () => expect(isRolledOut(object)).toBe(out));
