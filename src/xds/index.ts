// What each proxy should run: the mesh to xDS resources, encoded once and shared by all who want the same.
// Absent on purpose: connections to proxies, and who is allowed to ask.
export { type Interception, type NodeRead, type ProxyNode, readNode } from "./node.ts";
export { snapshotFor } from "./snapshot.ts";
