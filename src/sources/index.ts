// Where resources come from, and the store that keeps the last good value of every object.
// Absent on purpose: any judgement over several objects; the model makes it from the store's view.
export { type FileText, isResourceFile, listFiles, readText } from "./files.ts";
export { type FolderSource, type FolderSourceOptions, startFolderSource } from "./folder.ts";
export {
  followKubernetes,
  type KubernetesSource,
  type KubernetesSourceOptions,
  type ObjectObserver,
  startKubernetesSource,
} from "./kubernetes.ts";
export { type MemorySource, memorySource } from "./memory.ts";
export type { Layer, UnitUpdate } from "./source.ts";
export { type ByKind, keyOf, type Problem, ResourceStore, type ResourceView } from "./store.ts";
