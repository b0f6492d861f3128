import { basename, join, relative } from "node:path";
import { programFile } from "../../../src/base/index.ts";
import { imageCommand, splitImage } from "../../../src/lab/images.ts";
import type { ContainerSpec, PodObject } from "./pod-object.ts";

/** Where a container finds this package, as the image has it. */
export const packageInContainer = "/opt/isthmus";
const programs = "/usr/local/bin";
export const nodeInContainer = `${programs}/node`;

/** What stands for an image. */
export type Image =
  | {
      readonly kind: "known";
      /** What runs without a command of the container's own. */
      readonly entrypoint: readonly string[];
      readonly env: Readonly<Record<string, string>>;
      /** The user of the image. */
      readonly user: number;
      /** Programs of the machine, by where the container finds them. */
      readonly files: Readonly<Record<string, string>>;
      /** The command `isthmus` is on the path. */
      readonly isthmus: boolean;
    }
  | { readonly kind: "unknown"; readonly message: string };

export interface ImageTable {
  /** Programs by image name without registry and tag. */
  readonly images: Readonly<Record<string, readonly string[]>>;
  /** The Envoy of the images that have one. */
  readonly envoy: string | undefined;
}

/** The user that the mesh's own image runs as. */
const isthmusUser = 1337;

export function findImage(container: ContainerSpec, pod: PodObject, cluster: string, table: ImageTable): Image {
  const { name, tag } = splitImage(container.image);
  const known = { kind: "known", user: 0, env: {}, files: {}, isthmus: false } as const;
  const own = table.images[name];
  if (own) {
    const at = join(programs, basename(own[0]!));
    return { ...known, entrypoint: [at, ...own.slice(1)], files: { [at]: own[0]! } };
  }
  if (name.split("/").at(-1) === "isthmus") {
    const withEnvoy = tag.endsWith("-envoy");
    if (withEnvoy && table.envoy === undefined) {
      return { kind: "unknown", message: `no Envoy was named for image "${container.image}"` };
    }
    const files = withEnvoy ? { [join(programs, "envoy")]: table.envoy! } : {};
    return { ...known, entrypoint: [join(programs, "isthmus")], user: isthmusUser, files, isthmus: true };
  }
  const port = container.ports?.[0]?.containerPort;
  const found = imageCommand({
    image: container.image,
    port: port ?? 80,
    annotations: pod.metadata.annotations ?? {},
  });
  if (found.kind === "given") return { ...known, entrypoint: [] };
  if (found.kind !== "run") {
    const message = found.kind === "unknown" ? found.message : `"${container.image}" is the lab's alone`;
    return { kind: "unknown", message };
  }
  const labels = pod.metadata.labels ?? {};
  return {
    ...known,
    entrypoint: found.argv.map(inContainer),
    env: {
      ...found.env,
      ...(port === undefined ? {} : { PORT: String(port) }),
      POD_NAMESPACE: pod.metadata.namespace,
      POD_CLUSTER: cluster,
      POD_WORKLOAD: labels["app"] ?? pod.metadata.name,
      POD_VERSION: labels["version"] ?? "",
    },
  };
}

/** A program of this package, or Node itself, as the container has it. */
function inContainer(part: string): string {
  if (part === process.execPath) return nodeInContainer;
  const within = relative(programFile(), part);
  return within.startsWith("..") || !part.startsWith("/") ? part : join(packageInContainer, "dist", within);
}

/** A container's command line: its own command in place of the image's, its arguments behind either. */
export function commandLine(
  image: Extract<Image, { kind: "known" }>,
  container: ContainerSpec,
  expand: (text: string) => string,
): readonly string[] {
  const own = (container.command ?? []).map(expand);
  return [...(own.length > 0 ? own : image.entrypoint), ...(container.args ?? []).map(expand)];
}
