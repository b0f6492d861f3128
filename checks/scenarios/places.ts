import { join } from "node:path";

export const scenariosFolder = join(import.meta.dirname, "../../scenarios");
export const castFolder = join(scenariosFolder, "cast");

export interface Place {
  readonly cluster: string;
  readonly workload: string;
  readonly namespace?: string;
}

/** `cluster1/sleep` or `cluster1/foo/sleep`. */
export function placeOf(text: string): Place {
  const [cluster = "", second = "", third] = text.split("/");
  return third === undefined ? { cluster, workload: second } : { cluster, namespace: second, workload: third };
}

/** The namespace of objects that name none. */
export function homeOf(cluster: string): string {
  return cluster === "cluster1" ? "foo" : "bar";
}
