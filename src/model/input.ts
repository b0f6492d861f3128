import type { Kind, ResourceOf } from "../resources/index.ts";

/** The kinds of which a mesh is made. */
export const meshKinds = [
  "Namespace",
  "Service",
  "EndpointSlice",
  "Pod",
  "Node",
  "Secret",
  "ServiceEntry",
  "WorkloadEntry",
  "Gateway",
  "VirtualService",
  "DestinationRule",
] as const satisfies readonly Kind[];
type MeshKind = (typeof meshKinds)[number];

/** Resources by kind, as the store holds them: an object that did not change is the same object. */
export type MeshInput = {
  readonly [K in Kind as K extends MeshKind ? K : never]: ReadonlyMap<string, ResourceOf<K>>;
};

export const emptyInput: MeshInput = Object.freeze({
  Namespace: new Map(),
  Service: new Map(),
  EndpointSlice: new Map(),
  Pod: new Map(),
  Node: new Map(),
  Secret: new Map(),
  ServiceEntry: new Map(),
  WorkloadEntry: new Map(),
  Gateway: new Map(),
  VirtualService: new Map(),
  DestinationRule: new Map(),
});
