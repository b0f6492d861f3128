import { Cell, type Clock, type Logger, type Metrics, type Scope } from "../base/index.ts";
import { buildMesh, type Mesh, type MeshSettings } from "../model/index.ts";
import type { ResourceStore } from "../sources/index.ts";
import { debounce } from "./debounce.ts";

/** Quiet after the last change before a rebuild, and how long a steady drip may put it off. */
const quietMs = 20;
const maxMs = 500;

export interface Pipeline {
  readonly mesh: Cell<Mesh>;
  /** Builds what is pending now, without waiting for quiet. */
  flush(): void;
}

/**
 * Store → quiet → mesh. The cell holds the mesh of everything that the store held at one moment; readers do not know
 * each other. A rebuild that throws is a bug of ours: it is said, and the last mesh stays.
 */
export function startPipeline(
  deps: {
    readonly store: ResourceStore;
    readonly settings: MeshSettings;
    readonly clock: Clock;
    readonly log: Logger;
    readonly metrics: Metrics;
  },
  scope: Scope,
): Pipeline {
  const { store, settings, clock, log, metrics } = deps;
  const durations = metrics.histogram(
    "isthmus_mesh_build_seconds",
    "Time to build the mesh after a change",
    [],
    [0.001, 0.005, 0.02, 0.1, 0.5, 2],
  );
  const builds = metrics.counter("isthmus_mesh_builds_total", "Builds of the mesh", ["outcome"]);

  const build = (previous?: Mesh) => {
    const started = clock.monotonic();
    const mesh = buildMesh({ view: store.view.value.byKind, settings, ...(previous ? { previous } : {}) });
    durations.observe((clock.monotonic() - started) / 1000);
    builds.inc({ outcome: "built" });
    return mesh;
  };

  const mesh = new Cell(build());
  const rebuild = debounce(
    () => {
      try {
        mesh.set(build(mesh.value));
      } catch (err) {
        builds.inc({ outcome: "failed" });
        log.error({ err }, "mesh not rebuilt, the last one stays");
      }
    },
    { quietMs, maxMs, clock },
  );
  scope.defer(store.view.subscribe(() => rebuild.poke()));
  scope.defer(() => rebuild.cancel());
  return { mesh, flush: () => rebuild.flush() };
}
