import type { Versioned } from "../proto/index.ts";

/** A snapshot while it is put together: resources by name, type by type. */
export interface Parts {
  readonly cluster: Map<string, Versioned>;
  readonly endpoints: Map<string, Versioned>;
  readonly listener: Map<string, Versioned>;
  readonly route: Map<string, Versioned>;
  readonly secret: ReadonlyMap<string, Versioned>;
  readonly names: ReadonlyMap<string, Versioned>;
}

export function noParts(): Parts {
  return {
    cluster: new Map(),
    endpoints: new Map(),
    listener: new Map(),
    route: new Map(),
    secret: new Map(),
    names: new Map(),
  };
}

/** Adds what is not there yet: of two resources of one name the first stays. */
export function put(into: Map<string, Versioned>, ...resources: ReadonlyArray<Versioned | undefined>): void {
  for (const one of resources) if (one && !into.has(one.name)) into.set(one.name, one);
}
