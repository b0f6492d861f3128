// The test node: stands where a kubelet, a scheduler, kube-proxy and a load balancer would. Pods are processes in network
// namespaces; everything lives in one enclosure (network, mounts, processes) and goes with it, however it ends.
// `startTestNetwork` first: it says where the API servers are to run. `startTestNodes` once those answer.
export * from "./addresses.ts";
export { coreDnsManifests } from "./core-dns.ts";
export { type ClusterPlace, startTestNetwork, type TestNetwork } from "./network.ts";
export { startTestNodes, type TestNodes, type TestNodesOptions } from "./start.ts";
