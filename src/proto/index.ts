// The messages on the wire (made at build, in gen/) and `Snapshot`, where those who decide what a proxy runs meet those
// who tell it. Absent on purpose: any decision. Generated files are imported directly: ../proto/gen/….
export { isPacked, pack, unpack } from "./any.ts";
export { openAny, resourceBytes, resourceJson } from "./json.ts";
export { type MethodDefinition, methodDefinition, serviceDefinition } from "./service.ts";
export { type Snapshot, type TypeUrl, typeUrls, type Versioned } from "./snapshot.ts";
