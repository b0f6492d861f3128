import type { Clusters } from "./clusters.ts";

const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: caller
spec:
  selector:
    matchLabels: { app: caller }
  template:
    metadata:
      labels: { app: caller }
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: caller
        image: curlimages/curl
        command:
        - /bin/sh
        - -c
        - 'while true; do curl -s -o /dev/null -w "%{http_code} %{errormsg}\\n" -m 10 httpbin.bar.global:8000/headers; sleep 0.1; done'
`;

export interface Calls {
  readonly answered: number;
  /** What each of the others ended with. */
  readonly failed: readonly string[];
}

/** A pod in namespace foo of cluster 1 that calls httpbin in cluster 2 all the time, ten times a second at most. */
export async function startCaller(clusters: Clusters): Promise<{ calls(): Promise<Calls> }> {
  await clusters.must("kubectl apply --context=$CTX_CLUSTER1 -n foo -f -", { input: manifest });
  await clusters.must("kubectl rollout status --context=$CTX_CLUSTER1 -n foo deployment/caller --timeout=180s", {
    timeoutMs: 240_000,
  });
  const lines = async () =>
    (await clusters.must("kubectl logs --context=$CTX_CLUSTER1 -n foo deployment/caller -c caller"))
      .split("\n")
      .filter((line) => line.trim() !== "");
  let seen = (await lines()).length;
  return {
    /** Those since the last time. */
    async calls() {
      const all = await lines();
      const news = all.slice(seen);
      seen = all.length;
      const failed = news.filter((line) => !line.startsWith("200"));
      return { answered: news.length - failed.length, failed };
    },
  };
}
