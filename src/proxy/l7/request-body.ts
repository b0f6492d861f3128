import { keep } from "../l4/read-buffers.ts";
import type { Headers } from "./headers.ts";
import { type Downstream, limits, type RequestHead, type UpstreamStream } from "./message.ts";

/** A request's body on its way: what has not gone out yet, and what may have to go out again. */
export class RequestBody {
  /** All of it has come. */
  done: boolean;
  readonly #down: Downstream;
  #kept: Buffer[] | undefined;
  #bytes = 0;
  #replayable = true;
  #paused = false;
  #trailers: Headers | undefined;

  constructor(down: Downstream) {
    this.#down = down;
    this.done = !down.request.hasBody && down.request.upgrade === undefined;
  }

  /** What becomes of the request is known now: an upgrade is plain bytes, and one that is not carried is whole already. */
  expect({ hasBody, upgrade }: RequestHead): void {
    if (upgrade !== undefined) this.#replayable = false;
    if (upgrade === undefined && !hasBody) this.done = true;
  }

  /** Whether it can be sent once more from its beginning. */
  get replayable(): boolean {
    return this.#replayable;
  }

  /** What has come so far and is still there. */
  get kept(): readonly Buffer[] {
    return this.#kept ?? [];
  }

  /** A piece has come: it goes out where there is a stream, and is kept as long as it may be wanted again. */
  take(chunk: Buffer, stream: UpstreamStream | undefined): void {
    if (!stream || this.#replayable) {
      const kept = keep(chunk);
      if (this.#kept) this.#kept.push(kept);
      else this.#kept = [kept];
      this.#bytes += chunk.length;
    }
    const tooLarge = this.#bytes > limits.replayBytes;
    if (tooLarge) this.#replayable = false;
    if (stream) {
      if (tooLarge) this.forget();
      if (!stream.data(chunk)) this.pause();
    } else if (tooLarge) this.pause();
  }

  end(trailers: Headers | undefined, stream: UpstreamStream | undefined): void {
    this.done = true;
    this.#trailers = trailers;
    stream?.end(trailers);
  }

  /** Sends what has come so far. */
  sendTo(stream: UpstreamStream): void {
    let room = true;
    for (const chunk of this.kept) room = stream.data(chunk) && room;
    if (!this.#replayable) this.forget();
    if (this.done) stream.end(this.#trailers);
    else if (room) this.resume();
    else this.pause();
  }

  /** What is answered cannot be sent again: what was kept for that can go. */
  answered(): void {
    if (!this.#replayable) return;
    this.#replayable = false;
    this.forget();
  }

  forget(): void {
    this.#kept = undefined;
    this.#bytes = 0;
  }

  pause(): void {
    if (this.#paused || this.done) return;
    this.#paused = true;
    this.#down.pauseBody();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#down.resumeBody();
  }
}
