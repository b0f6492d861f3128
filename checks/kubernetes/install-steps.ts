import { expect } from "vitest";
import type { Clusters } from "./clusters.ts";

/** One root, and below it a CA for each cluster, in folders of their names: section 1 of the guide. */
export async function makeCertificates(clusters: Clusters): Promise<void> {
  await clusters.must(`
    isthmus ca root --out $FOLDER/root
    isthmus ca intermediate --root $FOLDER/root --cluster cluster1 --out $FOLDER/cluster1
    isthmus ca intermediate --root $FOLDER/root --cluster cluster2 --out $FOLDER/cluster2`);
}

/** The secret `cacerts` of both clusters, by the guide's own commands. */
export async function createCacerts(clusters: Clusters): Promise<void> {
  for (const number of [1, 2]) {
    await clusters.must(`
      kubectl create --context=$CTX_CLUSTER${number} namespace isthmus-system
      cd $FOLDER/cluster${number}
      kubectl create --context=$CTX_CLUSTER${number} secret generic cacerts -n isthmus-system \\
        --from-file=ca-cert.pem --from-file=ca-key.pem --from-file=root-cert.pem --from-file=cert-chain.pem`);
  }
}

/** Both clusters' meshes by one command, which gives up by itself after five minutes; `more` are further options of it. */
export async function install(clusters: Clusters, more = ""): Promise<string> {
  const command = "isthmus install --context $CTX_CLUSTER1 --context $CTX_CLUSTER2 --set profile=multicluster-gateways";
  return await clusters.must(`${command} ${more}`, { timeoutMs: 330_000 });
}

/** `sleep` in namespace foo of cluster 1, `httpbin` in namespace bar of cluster 2: section 3, as it is written. */
export async function startExample(clusters: Clusters): Promise<void> {
  // Somebody's own clusters fetch the images first.
  await clusters.must(
    `
    kubectl create --context=$CTX_CLUSTER1 namespace foo
    kubectl label  --context=$CTX_CLUSTER1 namespace foo istio-injection=enabled
    kubectl apply  --context=$CTX_CLUSTER1 -n foo -f samples/sleep/sleep.yaml
    kubectl create --context=$CTX_CLUSTER2 namespace bar
    kubectl label  --context=$CTX_CLUSTER2 namespace bar istio-injection=enabled
    kubectl apply  --context=$CTX_CLUSTER2 -n bar -f samples/httpbin/httpbin.yaml
    kubectl rollout status --context=$CTX_CLUSTER1 -n foo deployment/sleep --timeout=180s
    kubectl rollout status --context=$CTX_CLUSTER2 -n bar deployment/httpbin --timeout=180s`,
    { timeoutMs: 450_000 },
  );
}

/** Variables that the guide has filled in by hand. */
export const variables = `
  export SLEEP_POD=$(kubectl get --context=$CTX_CLUSTER1 -n foo pod -l app=sleep -o jsonpath={.items..metadata.name})
  export CLUSTER2_GW_ADDR=$(kubectl get --context=$CTX_CLUSTER2 -n isthmus-system svc isthmus-ingressgateway \\
    -o jsonpath='{.status.loadBalancer.ingress[0].ip}')
  export CLUSTER1_EGW_ADDR=$(kubectl get --context=$CTX_CLUSTER1 -n isthmus-system svc isthmus-egressgateway \\
    -o jsonpath={.spec.clusterIP})
`;

/** What makes httpbin known in cluster 1; `rest` is the entry from `resolution` on, with the variables above. */
export function serviceEntry(rest: string): string {
  return `kubectl apply --context=$CTX_CLUSTER1 -n foo -f - <<END
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata:
  name: httpbin-bar
spec:
  hosts:
  - httpbin.bar.global
  location: MESH_INTERNAL
  ports:
  - name: http1
    number: 8000
    protocol: http
${rest}
END`;
}

export const directEntry = serviceEntry(`  resolution: DNS
  addresses:
  - 240.0.0.2
  endpoints:
  - address: \${CLUSTER2_GW_ADDR}
    ports:
      http1: 15443`);

/** Section 3's call, as it is written: the headers of the answer. */
export const guideCall =
  "kubectl exec --context=$CTX_CLUSTER1 $SLEEP_POD -n foo -c sleep -- curl -sS -m 10 -I httpbin.bar.global:8000/headers";

/** Calls until it answers 200, for two minutes: news takes a moment to every proxy, and one look up to ten seconds. */
export async function expectAnswer(clusters: Clusters, call = guideCall): Promise<void> {
  let last = "";
  const deadline = Date.now() + 120_000;
  do {
    const { stdout, stderr } = await clusters.sh(`${variables}${call}`);
    if (/^HTTP\/1\.1 200 OK/m.test(stdout)) return;
    last = stdout + stderr;
    await new Promise((resolve) => setTimeout(resolve, 500));
  } while (Date.now() < deadline);
  expect(last).toContain("HTTP/1.1 200 OK");
}
