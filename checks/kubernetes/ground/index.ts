// The test ground: real Kubernetes control planes (etcd, kube-apiserver, kube-controller-manager, kube-scheduler),
// started where they are told to be; and `startGround`, which joins them with networks, nodes and pods.
// Absent on purpose: the networks and pods themselves (checks/kubernetes/node has them).
export { type ControlPlane, type ControlPlaneOptions, type Place, startControlPlane } from "./control-plane.ts";
export { type Credentials, type IssuedPair, makeCredentials } from "./credentials.ts";
export { type Context, kubeconfigText } from "./kubeconfig.ts";
export { coreDnsProgram, findMachinery, type Machinery } from "./machinery.ts";
export { GroundProgram } from "./program.ts";
