import { Failure } from "../../base/index.ts";
import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import type { Workload } from "./workload.ts";

/** What one pod of the DNS said of itself, asked by way of the API server. */
export type Metrics =
  | { readonly kind: "read"; readonly pod: string; readonly text: string }
  | { readonly kind: "failed"; readonly pod: string; readonly failure: Failure };

/** The port that every known manifest of CoreDNS has; the node's cache has another. */
const metricsPorts = { coredns: 9153, "node-cache": 9253, "kube-dns": 10054 } as const;
const askMs = 5_000;
const longestText = 4 * 1024 * 1024;

/**
 * The metrics of its running pods (of `most` of them), through `pods/proxy`; at the port that `prometheus` of the given
 * Corefile says. Never throws for a pod that cannot be asked.
 */
export async function metricsOf(
  api: ObjectApi,
  workload: Workload,
  { most = 5, corefile = "" }: { readonly most?: number; readonly corefile?: string } = {},
): Promise<readonly Metrics[]> {
  const pods = await runningPods(api, workload);
  const port = /^[ \t]*prometheus[ \t]+\S*:(\d+)/m.exec(corefile)?.[1] ?? metricsPorts[workload.program];
  return await Promise.all(
    pods.slice(0, most).map(async ({ metadata: { name } }): Promise<Metrics> => {
      try {
        const path = `/api/v1/namespaces/${workload.namespace}/pods/${name}:${port}/proxy/metrics`;
        return { kind: "read", pod: name, text: await textAt(api, path) };
      } catch (caught) {
        return { kind: "failed", pod: name, failure: Failure.from(caught, "clusterdns/metrics") };
      }
    }),
  );
}

export async function runningPods(api: ObjectApi, workload: Workload): Promise<readonly KubeObject[]> {
  if (workload.selector === "") return [];
  const pods = await api.list({ apiVersion: "v1", kind: "Pod", namespace: workload.namespace }, workload.selector);
  return pods.filter(({ metadata, status }) => {
    const { phase } = (status ?? {}) as { phase?: string };
    return phase === "Running" && metadata["deletionTimestamp"] === undefined;
  });
}

async function textAt(api: ObjectApi, path: string): Promise<string> {
  const stream = await api.client.stream({ path, timeoutMs: askMs });
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    length += (chunk as Buffer).length;
    if (length > longestText) throw new Failure("clusterdns/metrics", `${path} is longer than ${longestText} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}
