/** The same in every cluster on purpose: pod networks may overlap, and a mesh that mixes them up shows at once. */
export const podCidr = "10.244.0.0/16";
export const serviceCidr = "10.96.0.0/16";
/** What every cluster's pods see as the way out, as the machine of the API server, and as the cluster's DNS. */
export const routerIp = "10.244.0.1";
export const apiServerIp = "10.244.0.2";
export const kubernetesServiceIp = "10.96.0.1";
export const dnsServiceIp = "10.96.0.10";
/** Where commands run, and the kubelets serve: between the clusters, as somebody's own machine would be. */
export const outsideIp = "172.30.0.254";
export const apiServerPort = 6443;
export const kubeletPort = 10250;

/** Addresses of the cluster with this number, counted from 1, as the other clusters and people see it. */
export function outsideAddresses(index: number) {
  return {
    /** The machine's: node ports, the API server at 6443, the kubelet at 10250. */
    node: `172.30.${index}.1`,
    /** Load balancers: the first one's, and how many there are. */
    firstLoadBalancer: `172.30.${index}.10`,
    loadBalancers: 200,
  } as const;
}

/** Addresses of pods: from 10.244.0.10 on. */
export function podIp(number: number): string {
  const at = number + 9;
  return `10.244.${Math.floor(at / 250)}.${(at % 250) + 1}`;
}
/** How many there are before the range is used up. */
export const podIps = 60_000;

export function loadBalancerIp(index: number, number: number): string {
  return `172.30.${index}.${10 + number}`;
}

/** The port at `outsideIp` where the kubelet of a cluster listens; the cluster's own address leads there. */
export function kubeletListenPort(index: number): number {
  return 10_250 + index;
}
