import { explain, Failure, sleep, type Timer } from "../../../src/base/index.ts";
import type { NodeParts } from "./node-parts.ts";
import type { PodObject } from "./pod-object.ts";

/** Changes within this time are told together. */
const togetherMs = 20;
const retryMs = 500;

/** Writes a pod's status whenever it is another, one write at a time, until the pod is gone. */
export class StatusWriter {
  readonly #parts: NodeParts;
  readonly #pod: PodObject;
  readonly #path: string;
  readonly #status: () => Readonly<Record<string, unknown>>;
  #written = "";
  #timer: Timer | undefined;
  #working: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(parts: NodeParts, pod: PodObject, status: () => Readonly<Record<string, unknown>>) {
    const { name, namespace } = pod.metadata;
    this.#parts = parts;
    this.#pod = pod;
    this.#path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    this.#status = status;
  }

  write(): void {
    if (this.#closed || this.#timer) return;
    this.#timer = this.#parts.clock.after(togetherMs, () => {
      this.#timer = undefined;
      void this.#flush();
    });
  }

  #flush(): Promise<void> {
    this.#working = this.#working.then(() => this.#write());
    return this.#working;
  }

  async #write(): Promise<void> {
    if (this.#closed) return;
    const status = this.#status();
    const text = JSON.stringify(status);
    if (text === this.#written) return;
    const body = { metadata: { uid: this.#pod.metadata.uid }, status };
    try {
      await this.#parts.client.json({
        method: "PATCH",
        path: `${this.#path}/status`,
        contentType: "application/merge-patch+json",
        body,
      });
      this.#written = text;
    } catch (caught) {
      if (isGone(caught)) {
        this.#closed = true;
        return;
      }
      this.#parts.log.warn({ pod: this.#pod.metadata.name, error: explain(caught) }, "a pod's status was not written");
      await sleep(this.#parts.clock, retryMs);
      this.write();
    }
  }

  /** Writes what is to be said at last, and ends the object. */
  async remove(): Promise<void> {
    this.#timer?.cancel();
    await this.#flush();
    for (let tries = 0; !this.#closed; tries++) {
      try {
        await this.#parts.client.json({
          method: "DELETE",
          path: this.#path,
          body: {
            apiVersion: "v1",
            kind: "DeleteOptions",
            gracePeriodSeconds: 0,
            preconditions: { uid: this.#pod.metadata.uid },
          },
        });
        return;
      } catch (caught) {
        if (isGone(caught)) return;
        await sleep(this.#parts.clock, retryMs * Math.min(8, tries + 1));
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }
}

/** There is no such object, or another of its name. */
function isGone(caught: unknown): boolean {
  return caught instanceof Failure && (caught.code === "kube/not-found" || caught.code === "kube/conflict");
}
