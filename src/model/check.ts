import type { Finding } from "./finding.ts";
import type { MeshInput } from "./input.ts";
import type { Mesh } from "./mesh.ts";

/** Everything suspicious that takes two objects, or a whole mesh, to see. */
export function checkMesh(_mesh: Omit<Mesh, "findings">, _view: MeshInput): readonly Finding[] {
  return [];
}
