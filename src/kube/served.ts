import { Failure } from "../base/index.ts";
import type { KubeClient } from "./client.ts";

/** The version of a custom resource to ask for; undefined when the cluster does not have the resource. */
export type Served =
  | {
      readonly version: string;
      /** Whether its status is written apart from the rest, under `/status`. */
      readonly status: boolean;
    }
  | undefined;

/**
 * Asks the definition itself which versions it serves: that is the truth of etcd, while a 404 may be an API server that
 * has not finished starting. Of `versions`, wanted most first. Throws as the client does.
 */
export async function servedVersion(
  client: KubeClient,
  {
    group,
    plural,
    versions,
  }: { readonly group: string; readonly plural: string; readonly versions: readonly string[] },
  signal?: AbortSignal,
): Promise<Served> {
  const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${plural}.${group}`;
  let definition: Definition;
  try {
    definition = await client.json<Definition>({ path, ...(signal ? { signal } : {}) });
  } catch (caught) {
    if (caught instanceof Failure && caught.code === "kube/not-found") return undefined;
    throw caught;
  }
  const served = (definition.spec?.versions ?? []).filter((version) => version.served);
  const found = versions.flatMap((name) => served.find((version) => version.name === name) ?? [])[0];
  if (found) return { version: found.name, status: found.subresources?.status !== undefined };
  throw new Failure(
    "kube/version",
    `${plural}.${group} is served in ${served.map(({ name }) => name).join(", ") || "no version"}; read are ${versions.join(", ")}`,
    { hint: "its definition is newer or older than this program" },
  );
}

interface Definition {
  readonly spec?: {
    readonly versions?: ReadonlyArray<{
      readonly name: string;
      readonly served: boolean;
      readonly subresources?: { readonly status?: object };
    }>;
  };
}
