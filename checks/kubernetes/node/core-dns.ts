import { dnsServiceIp } from "./addresses.ts";

/** What a cluster's DNS is after installation, as kubeadm leaves it, but that a changed Corefile is taken within seconds. */
const corefile = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    loop
    reload 2s 1s
    loadbalance
}
`;

/**
 * A cluster's CoreDNS: Deployment and ConfigMap `coredns`, Service `kube-dns`, in kube-system; objects for `kubectl apply`.
 * `startTestNodes` needs the program under `images` as `coredns/coredns`.
 */
export function coreDnsManifests({ version }: { readonly version: string }): readonly object[] {
  const labels = { "k8s-app": "kube-dns" };
  const named = (name: string) => ({ name, namespace: "kube-system", labels });
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata: named("coredns") },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "system:coredns" },
      rules: [
        { apiGroups: [""], resources: ["endpoints", "services", "pods", "namespaces"], verbs: ["list", "watch"] },
        { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
      ],
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "system:coredns" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "system:coredns" },
      subjects: [{ kind: "ServiceAccount", name: "coredns", namespace: "kube-system" }],
    },
    { apiVersion: "v1", kind: "ConfigMap", metadata: named("coredns"), data: { Corefile: corefile } },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { ...named("kube-dns"), labels: { ...labels, "kubernetes.io/name": "CoreDNS" } },
      spec: {
        selector: labels,
        clusterIP: dnsServiceIp,
        ports: [
          { name: "dns", port: 53, protocol: "UDP", targetPort: 53 },
          { name: "dns-tcp", port: 53, protocol: "TCP", targetPort: 53 },
          { name: "metrics", port: 9153, protocol: "TCP", targetPort: 9153 },
        ],
      },
    },
    { apiVersion: "apps/v1", kind: "Deployment", metadata: named("coredns"), spec: deployment(labels, version) },
  ];
}

function deployment(labels: Readonly<Record<string, string>>, version: string) {
  const probe = (path: string, port: number) => ({ httpGet: { path, port, scheme: "HTTP" } });
  return {
    replicas: 1,
    strategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } },
    selector: { matchLabels: labels },
    template: {
      metadata: { labels },
      spec: {
        priorityClassName: "system-cluster-critical",
        serviceAccountName: "coredns",
        dnsPolicy: "Default",
        terminationGracePeriodSeconds: 10,
        containers: [
          {
            name: "coredns",
            image: `registry.k8s.io/coredns/coredns:v${version.replace(/^v/, "")}`,
            imagePullPolicy: "IfNotPresent",
            args: ["-conf", "/etc/coredns/Corefile"],
            resources: { limits: { memory: "170Mi" }, requests: { cpu: "100m", memory: "70Mi" } },
            volumeMounts: [{ name: "config-volume", mountPath: "/etc/coredns", readOnly: true }],
            ports: [
              { containerPort: 53, name: "dns", protocol: "UDP" },
              { containerPort: 53, name: "dns-tcp", protocol: "TCP" },
              { containerPort: 9153, name: "metrics", protocol: "TCP" },
            ],
            livenessProbe: {
              ...probe("/health", 8080),
              initialDelaySeconds: 60,
              timeoutSeconds: 5,
              failureThreshold: 5,
            },
            readinessProbe: { ...probe("/ready", 8181), periodSeconds: 2 },
            securityContext: {
              allowPrivilegeEscalation: false,
              readOnlyRootFilesystem: true,
              capabilities: { add: ["NET_BIND_SERVICE"], drop: ["ALL"] },
            },
          },
        ],
        volumes: [
          { name: "config-volume", configMap: { name: "coredns", items: [{ key: "Corefile", path: "Corefile" }] } },
        ],
      },
    },
  };
}
