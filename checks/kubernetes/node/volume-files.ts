import { fieldValue, resourceValue } from "./downward.ts";
import type { PlaceFacts, ValueSource } from "./environment.ts";
import type { DownwardItem, Keyed, PodObject, ProjectedSource, Values, VolumeSpec } from "./pod-object.ts";

export interface VolumeFile {
  readonly path: string;
  readonly bytes: Buffer;
  readonly mode: number;
  /** A token, which is its reader's alone. */
  readonly token: boolean;
}

export interface TokenWish {
  readonly audience: string;
  readonly expirationSeconds: number;
}

/** A token that was given out, by what was asked for. */
export type TokenOf = (wish: TokenWish) => string | undefined;

export type VolumeContent =
  | { readonly kind: "files"; readonly files: readonly VolumeFile[] }
  | { readonly kind: "empty"; readonly memory: boolean }
  /** Something is not there yet, or will never be; as a kubelet's event says it. */
  | { readonly kind: "problem"; readonly problem: string };

/** What is in a volume, as of now. */
export function volumeContent(
  volume: VolumeSpec,
  pod: PodObject,
  known: { readonly source: ValueSource; readonly place: PlaceFacts; readonly tokenOf: TokenOf },
): VolumeContent {
  if (volume.emptyDir) return { kind: "empty", memory: volume.emptyDir.medium === "Memory" };
  const sources: readonly ProjectedSource[] | undefined = volume.configMap
    ? [{ configMap: volume.configMap }]
    : volume.secret
      ? [{ secret: { ...volume.secret, ...(volume.secret.secretName ? { name: volume.secret.secretName } : {}) } }]
      : volume.downwardAPI
        ? [{ downwardAPI: volume.downwardAPI }]
        : volume.projected?.sources;
  if (!sources) {
    const kind = Object.keys(volume).find((key) => key !== "name");
    return { kind: "problem", problem: `the test node has no volumes of kind "${kind}"` };
  }
  const mode = (volume.configMap ?? volume.secret ?? volume.downwardAPI ?? volume.projected)?.defaultMode ?? 0o644;
  const files: VolumeFile[] = [];
  for (const source of sources) {
    const read = sourceFiles(source, pod, mode, known);
    if ("problem" in read) return { kind: "problem", problem: read.problem };
    files.push(...read.files);
  }
  // Of two sources with one path the later one counts.
  return { kind: "files", files: [...new Map(files.map((file) => [file.path, file])).values()] };
}

type Read = { readonly files: readonly VolumeFile[] } | { readonly problem: string };

function sourceFiles(
  source: ProjectedSource,
  pod: PodObject,
  mode: number,
  known: Parameters<typeof volumeContent>[2],
): Read {
  if (source.serviceAccountToken) {
    const { path } = source.serviceAccountToken;
    const token = known.tokenOf(tokenWish(source.serviceAccountToken));
    if (token === undefined) return { problem: `failed to fetch token for "${path}": not given out yet` };
    return { files: [{ path, bytes: Buffer.from(token), mode, token: true }] };
  }
  if (source.downwardAPI) return downwardFiles(source.downwardAPI.items ?? [], pod, mode, known.place);
  if (source.configMap)
    return keyedFiles("configmap", source.configMap, mode, pod, known.source.configMap(source.configMap.name ?? ""));
  if (source.secret)
    return keyedFiles("secret", source.secret, mode, pod, known.source.secret(source.secret.name ?? ""));
  return { problem: `the test node has no projected source "${Object.keys(source).join(", ")}"` };
}

function keyedFiles(kind: string, keyed: Keyed, mode: number, pod: PodObject, values: Values | undefined): Read {
  const full = `${pod.metadata.namespace}/${keyed.name}`;
  if (!values) return keyed.optional ? { files: [] } : { problem: `${kind} "${keyed.name}" not found` };
  const file = (path: string, bytes: Buffer, own?: number) => ({ path, bytes, mode: own ?? mode, token: false });
  if (!keyed.items?.length) return { files: [...values].map(([key, bytes]) => file(key, bytes)) };
  const files: VolumeFile[] = [];
  for (const { key, path, mode: own } of keyed.items) {
    const bytes = values.get(key);
    if (bytes) files.push(file(path, bytes, own));
    else if (!keyed.optional) return { problem: `${kind} ${full} references non-existent ${kind} key: ${key}` };
  }
  return { files };
}

function downwardFiles(items: readonly DownwardItem[], pod: PodObject, mode: number, place: PlaceFacts): Read {
  const files: VolumeFile[] = [];
  for (const { path, fieldRef, resourceFieldRef, mode: own } of items) {
    const container = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].find(
      ({ name }) => name === resourceFieldRef?.containerName,
    );
    const text = fieldRef
      ? fieldValue(pod, fieldRef.fieldPath, place)
      : container && resourceValue(container, resourceFieldRef!.resource, resourceFieldRef!.divisor);
    if (text === undefined) return { problem: `the downward API has nothing for "${path}"` };
    files.push({ path, bytes: Buffer.from(text), mode: own ?? mode, token: false });
  }
  return { files };
}

/** How long a token lives when nobody says so, in seconds (Kubernetes API, ServiceAccountTokenProjection). */
const tokenSeconds = 3600;

export function tokenWish({
  audience = "",
  expirationSeconds = tokenSeconds,
}: NonNullable<ProjectedSource["serviceAccountToken"]>): TokenWish {
  return { audience, expirationSeconds };
}

/** The tokens that a pod's volumes want. */
export function tokenWishes(pod: PodObject): readonly TokenWish[] {
  const sources = (pod.spec.volumes ?? []).flatMap(({ projected }) => projected?.sources ?? []);
  return sources.flatMap(({ serviceAccountToken }) => (serviceAccountToken ? [tokenWish(serviceAccountToken)] : []));
}

/** Whose files tokens are: the user that all containers run as, where they agree. */
export function commonUser(pod: PodObject): number | undefined {
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const users = new Set(
    all.map(({ securityContext }) => securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser),
  );
  const [user] = users;
  return users.size === 1 ? user : undefined;
}
