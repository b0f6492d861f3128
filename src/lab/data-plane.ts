import { copyFileSync, linkSync } from "node:fs";
import { join } from "node:path";
import { envoyPlaces, locateEnvoy } from "../proxy/index.ts";
import type { LabPlan } from "./supervisor.ts";
import type { DataPlane, LabMode, LabUpOptions } from "./types.ts";

/** By a cluster's place among the others, from 0. */
const hasEnvoy: Readonly<Record<DataPlane, (position: number) => boolean>> = {
  embedded: () => false,
  envoy: () => true,
  mixed: (position) => position % 2 === 1,
  "mixed-reversed": (position) => position % 2 === 0,
};

/** The Envoy of a lab that wants one, where its pods can run it, and the clusters that have it. */
export async function envoyOf(
  options: LabUpOptions,
  place: { readonly folder: string; readonly mode: LabMode },
): Promise<LabPlan["envoy"]> {
  const { dataPlane = "embedded", clusters } = options;
  const { path } = await locateEnvoy(envoyPlaces(process.env, options.envoy));
  const names = clusters.map(({ name }) => name);
  return {
    // As root, proxies are another user than the one in whose cache it may be.
    binary: place.mode === "netns" ? atHand(path, join(place.folder, "envoy")) : path,
    clusters: names.filter((_, position) => hasEnvoy[dataPlane](position)),
  };
}

/** The same file under another name, or a copy where that cannot be. */
function atHand(path: string, target: string): string {
  try {
    linkSync(path, target);
  } catch {
    copyFileSync(path, target);
  }
  return target;
}
