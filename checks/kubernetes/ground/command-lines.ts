import type { Place } from "./control-plane.ts";
import type { Machinery } from "./machinery.ts";

interface Pair {
  readonly certificate: string;
  readonly key: string;
}

/** Files of one control plane, by path. */
export interface Files {
  readonly ca: string;
  readonly server: Pair;
  readonly kubelet: Pair;
  readonly proxy: Pair;
  readonly accountKey: string;
  readonly accountPublicKey: string;
  readonly admin: string;
  readonly controllers: string;
  readonly scheduler: string;
  readonly etcdData: string;
}

/** Controllers that a cluster's users notice; those for nodes' addresses, volumes and quotas are left out. */
const controllers = [
  "serviceaccount-token-controller",
  "serviceaccount-controller",
  "root-ca-certificate-publisher-controller",
  "clusterrole-aggregation-controller",
  "namespace-controller",
  "garbage-collector-controller",
  "pod-garbage-collector-controller",
  "deployment-controller",
  "replicaset-controller",
  "statefulset-controller",
  "daemonset-controller",
  "job-controller",
  "disruption-controller",
  "endpoints-controller",
  "endpointslice-controller",
  "endpointslice-mirroring-controller",
];

export function etcdLine(machinery: Machinery, files: Files, { etcdPorts: [client, peer] }: Place): readonly string[] {
  const peerUrl = `http://127.0.0.1:${peer}`;
  const clientUrl = `http://127.0.0.1:${client}`;
  return [
    ...machinery.etcd,
    "--name=ground",
    `--data-dir=${files.etcdData}`,
    `--listen-client-urls=${clientUrl}`,
    `--advertise-client-urls=${clientUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=ground=${peerUrl}`,
    "--log-level=warn",
    // Nobody's data: it need not survive the machine.
    "--unsafe-no-fsync",
  ];
}

export function apiserverLine(
  machinery: Machinery,
  files: Files,
  place: Place,
  serviceCidr: string,
): readonly string[] {
  return [
    ...machinery["kube-apiserver"],
    `--etcd-servers=http://127.0.0.1:${place.etcdPorts[0]}`,
    `--bind-address=${place.listen}`,
    `--secure-port=${place.port}`,
    `--advertise-address=${place.advertise}`,
    `--service-cluster-ip-range=${serviceCidr}`,
    `--client-ca-file=${files.ca}`,
    `--tls-cert-file=${files.server.certificate}`,
    `--tls-private-key-file=${files.server.key}`,
    `--kubelet-client-certificate=${files.kubelet.certificate}`,
    `--kubelet-client-key=${files.kubelet.key}`,
    "--kubelet-preferred-address-types=InternalIP,Hostname",
    `--proxy-client-cert-file=${files.proxy.certificate}`,
    `--proxy-client-key-file=${files.proxy.key}`,
    `--requestheader-client-ca-file=${files.ca}`,
    "--requestheader-allowed-names=front-proxy-client",
    "--requestheader-username-headers=X-Remote-User",
    "--requestheader-group-headers=X-Remote-Group",
    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    // Webhooks are called at their pods, not at an address that only pods' packet filters know.
    "--enable-aggregator-routing=true",
    "--authorization-mode=Node,RBAC",
    "--allow-privileged=true",
    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
    `--service-account-key-file=${files.accountPublicKey}`,
    `--service-account-signing-key-file=${files.accountKey}`,
    // kubectl's WebSockets go on to the test node as they are, which speaks nothing else.
    "--feature-gates=TranslateStreamCloseWebsocketRequests=false",
    "--profiling=false",
    "--v=1",
  ];
}

export function controllersLine(machinery: Machinery, files: Files, serviceCidr: string): readonly string[] {
  return [
    ...machinery["kube-controller-manager"],
    `--kubeconfig=${files.controllers}`,
    `--controllers=${controllers.join(",")}`,
    "--use-service-account-credentials=true",
    `--service-account-private-key-file=${files.accountKey}`,
    `--root-ca-file=${files.ca}`,
    `--service-cluster-ip-range=${serviceCidr}`,
    "--leader-elect=false",
    "--secure-port=0",
    "--v=1",
  ];
}

export function schedulerLine(machinery: Machinery, files: Files): readonly string[] {
  return [
    ...machinery["kube-scheduler"],
    `--kubeconfig=${files.scheduler}`,
    "--leader-elect=false",
    "--secure-port=0",
    "--v=1",
  ];
}
