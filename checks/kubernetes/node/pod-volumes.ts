import { chmodSync, chownSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { explain, type Timer } from "../../../src/base/index.ts";
import { writeVolume } from "./atomic-writer.ts";
import type { Mount } from "./container-root.ts";
import type { PlaceFacts } from "./environment.ts";
import type { NodeParts } from "./node-parts.ts";
import type { ContainerSpec, PodObject } from "./pod-object.ts";
import { expandVariables } from "./variables.ts";
import { commonUser, type TokenWish, tokenWishes, volumeContent } from "./volume-files.ts";

interface Token {
  readonly token: string;
  /** When to ask for the next one, in milliseconds since the Unix epoch. */
  readonly renewAt: number;
}

/** A renewal that failed is tried again so soon. */
const retryMs = 2_000;

/** The volumes of one pod: written, kept as their sources are, tokens renewed before they end. */
export class PodVolumes {
  readonly #parts: NodeParts;
  readonly #folder: string;
  readonly #place: PlaceFacts;
  readonly #tokens = new Map<string, Token>();
  #timer: Timer | undefined;
  #working: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(parts: NodeParts, folder: string, place: PlaceFacts) {
    this.#parts = parts;
    this.#folder = join(folder, "volumes");
    this.#place = place;
    mkdirSync(this.#folder, { recursive: true, mode: 0o755 });
  }

  /** Writes what has changed. What keeps a volume from being whole, or undefined. */
  refresh(pod: PodObject): Promise<string | undefined> {
    const done = this.#working.then(() => (this.#closed ? undefined : this.#refresh(pod)));
    this.#working = done.catch(() => {});
    return done;
  }

  async #refresh(pod: PodObject): Promise<string | undefined> {
    const problem = await this.#fetchTokens(pod).catch((caught) => `failed to fetch token: ${explain(caught)}`);
    if (this.#closed) return undefined;
    if (problem !== undefined) return problem;
    const fsGroup = pod.spec.securityContext?.fsGroup;
    const owners = { group: fsGroup, tokenUser: commonUser(pod) };
    const problems: string[] = [];
    for (const volume of pod.spec.volumes ?? []) {
      const folder = join(this.#folder, volume.name);
      mkdirSync(folder, { recursive: true, mode: 0o755 });
      const content = volumeContent(volume, pod, {
        source: this.#parts.values(pod.metadata.namespace),
        place: this.#place,
        tokenOf: (wish) => this.#tokens.get(keyOf(wish))?.token,
      });
      if (content.kind === "problem")
        problems.push(`MountVolume.SetUp failed for volume "${volume.name}" : ${content.problem}`);
      else if (content.kind === "files") writeVolume(folder, content.files, owners);
      else if ((statSync(folder).mode & 0o777) !== 0o777) {
        if (fsGroup !== undefined) chownSync(folder, 0, fsGroup);
        chmodSync(folder, fsGroup === undefined ? 0o777 : 0o2777);
      }
    }
    return problems.length === 0 ? undefined : problems.join("; ");
  }

  async #fetchTokens(pod: PodObject): Promise<undefined> {
    const { clock, client } = this.#parts;
    for (const wish of tokenWishes(pod)) {
      const key = keyOf(wish);
      const held = this.#tokens.get(key);
      if (held && held.renewAt > clock.now()) continue;
      const { name, namespace, uid } = pod.metadata;
      const answer = await client.json<{ status: { token: string; expirationTimestamp: string } }>({
        method: "POST",
        path: `/api/v1/namespaces/${namespace}/serviceaccounts/${pod.spec.serviceAccountName ?? "default"}/token`,
        body: {
          apiVersion: "authentication.k8s.io/v1",
          kind: "TokenRequest",
          spec: {
            ...(wish.audience === "" ? {} : { audiences: [wish.audience] }),
            expirationSeconds: wish.expirationSeconds,
            boundObjectRef: { apiVersion: "v1", kind: "Pod", name, uid },
          },
        },
      });
      // A kubelet renews when four fifths of the time are over.
      const lifeMs = Date.parse(answer.status.expirationTimestamp) - clock.now();
      const seconds = Math.min(lifeMs, wish.expirationSeconds * 1000);
      this.#tokens.set(key, { token: answer.status.token, renewAt: clock.now() + seconds * 0.8 });
    }
    this.#renewLater(pod);
    return undefined;
  }

  #renewLater(pod: PodObject): void {
    this.#timer?.cancel();
    const next = Math.min(...[...this.#tokens.values()].map(({ renewAt }) => renewAt));
    if (!Number.isFinite(next) || this.#closed) return;
    const { clock } = this.#parts;
    this.#timer = clock.after(Math.max(retryMs, next - clock.now()), () => {
      void this.refresh(pod).then((problem) => {
        if (problem !== undefined) this.#renewLater(pod);
      });
    });
  }

  /** What a container mounts. Throws with what is wrong with a path. */
  mounts(pod: PodObject, container: ContainerSpec, env: ReadonlyMap<string, string>): readonly Mount[] {
    const mounts = (container.volumeMounts ?? []).map((mount): Mount => {
      const volume = pod.spec.volumes?.find(({ name }) => name === mount.name);
      const base = join(this.#folder, mount.name);
      const within = mount.subPathExpr === undefined ? mount.subPath : expandVariables(mount.subPathExpr, env);
      const source = within ? join(base, within) : base;
      if (within && volume?.emptyDir) mkdirSync(source, { recursive: true, mode: 0o777 });
      const kind = statSync(source).isDirectory() ? "folder" : "file";
      // What a kubelet writes is nobody else's to change.
      return {
        source,
        target: mount.mountPath,
        kind,
        readOnly: mount.readOnly === true || volume?.emptyDir === undefined,
      };
    });
    return mounts.sort((a, b) => (a.target < b.target ? -1 : 1));
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }
}

function keyOf({ audience, expirationSeconds }: TokenWish): string {
  return `${audience}\n${expirationSeconds}`;
}
