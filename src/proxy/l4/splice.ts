import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Clock } from "../../base/index.ts";
import { passReads } from "./pass-reads.ts";
import type { Stop } from "./stop.ts";

/** How two connections that were joined ended. */
export interface Spliced {
  /** Bytes from downstream, and to it. */
  readonly received: number;
  readonly sent: number;
  readonly ended: "both-ended" | "downstream-reset" | "upstream-reset" | "idle" | "aborted";
}

/** Bytes that may wait in a socket for a slow reader, each way, before the writer is held back. */
const waitingLimit = 256 * 1024;

/** What one direction is doing. */
interface Flow {
  bytes: number;
  ended: boolean;
}

/**
 * Passes bytes between two connections until both have ended. One side may finish long before the other: its end is
 * passed on and the other direction goes on. A reset is passed on as a reset. A slow reader holds its writer back.
 */
export function splice(options: {
  readonly downstream: Duplex;
  readonly upstream: Duplex;
  readonly clock: Clock;
  readonly idleMs: number | undefined;
  readonly signal: Stop;
}): Promise<Spliced> {
  const { downstream, upstream, clock, idleMs, signal } = options;
  return new Promise((resolve) => {
    const up: Flow = { bytes: 0, ended: false };
    const down: Flow = { bytes: 0, ended: false };
    let ended: Spliced["ended"] | undefined;
    let open = 2;
    let movedMs = clock.monotonic();
    const settle = () => {
      timer?.cancel();
      signal.removeEventListener("abort", onAbort);
      resolve({ received: up.bytes, sent: down.bytes, ended: ended ?? "both-ended" });
    };
    const stop = (why: Spliced["ended"], how: (socket: Duplex) => void) => {
      ended ??= why;
      how(downstream);
      how(upstream);
    };
    const onAbort = () => stop("aborted", (socket) => socket.destroy());
    const flow = (from: Duplex, to: Duplex, state: Flow, reset: "downstream-reset" | "upstream-reset") => {
      passReads(from, to, (bytes) => {
        state.bytes += bytes;
        if (idleMs !== undefined) movedMs = clock.monotonic();
        // What went out at once is not counted: a fast reader never makes its writer wait.
        if (to.writableLength > waitingLimit) from.pause();
      });
      to.on("drain", () => from.resume());
      from.on("end", () => {
        state.ended = true;
        if (to.writable) to.end();
      });
      // A broken socket says why, then closes; what it means for the other is decided at the close.
      from.on("error", () => {
        ended ??= reset;
      });
      from.on("close", () => {
        open--;
        if (!state.ended && ended === undefined && !from.readableEnded) ended = reset;
        if (ended === "downstream-reset" || ended === "upstream-reset") resetSocket(to);
        else if (!from.readableEnded) to.destroy();
        if (open === 0) settle();
      });
    };
    flow(downstream, upstream, up, "downstream-reset");
    flow(upstream, downstream, down, "upstream-reset");
    const watch = (waitMs: number) =>
      clock.after(waitMs, () => {
        const restMs = movedMs + idleMs! - clock.monotonic();
        if (restMs > 0) timer = watch(restMs);
        else stop("idle", (socket) => socket.destroy());
      });
    let timer = idleMs === undefined ? undefined : watch(idleMs);
    // Either may have closed before anyone listened here.
    for (const [socket, other] of [
      [downstream, upstream],
      [upstream, downstream],
    ] as const) {
      if (!socket.closed) continue;
      open--;
      ended ??= socket === downstream ? "downstream-reset" : "upstream-reset";
      resetSocket(other);
    }
    if (open === 0) return settle();
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}

/** Ends a connection so that its peer learns that something broke, not that all was said. */
export function resetSocket(socket: Duplex): void {
  if (socket.destroyed) return;
  // Beneath a TLS socket is the one that can be reset.
  const beneath = (socket as { readonly _parent?: unknown })._parent;
  const raw = beneath instanceof Socket ? beneath : socket;
  socket.on("error", () => {});
  if (raw instanceof Socket && !raw.destroyed && !raw.connecting) {
    try {
      raw.resetAndDestroy();
    } catch {
      // A handle that is not TCP's cannot be reset; it is closed below.
    }
  }
  socket.destroy();
}
