import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { systemClock } from "../../base/index.ts";
import { FakeClock } from "../../testing/index.ts";
import { dial, server } from "../testdata/scene.ts";
import { type Spliced, splice } from "./splice.ts";

/** Two ends, joined in the middle by what is tested. */
async function joined(
  options: { readonly idleMs?: number; readonly clock?: FakeClock; readonly signal?: AbortSignal } = {},
) {
  const accepted: Socket[] = [];
  const listening = await server((socket) => accepted.push(socket));
  const client = await dial(listening);
  const target = await dial(listening);
  while (accepted.length < 2) await new Promise((resolve) => setImmediate(resolve));
  const [downstream, upstream] = accepted as [Socket, Socket];
  const done: Promise<Spliced> = splice({
    downstream,
    upstream,
    clock: options.clock ?? systemClock,
    idleMs: options.idleMs,
    signal: options.signal ?? new AbortController().signal,
  });
  return { client, target, done, downstream, upstream };
}

const collect = (socket: Socket) =>
  new Promise<Buffer>((resolve) => {
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.once("end", () => resolve(Buffer.concat(chunks)));
  });

test("whatever the chunks, each side gets the other's bytes and then its end", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 70_000 }), { maxLength: 6 }),
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 70_000 }), { maxLength: 6 }),
      async (up, down) => {
        const { client, target, done } = await joined();
        const atTarget = collect(target);
        const atClient = collect(client);
        for (const chunk of up) client.write(chunk);
        for (const chunk of down) target.write(chunk);
        client.end();
        target.end();
        expect((await atTarget).equals(Buffer.concat(up))).toBe(true);
        expect((await atClient).equals(Buffer.concat(down))).toBe(true);
        const { received, sent, ended } = await done;
        expect({ received, sent, ended }).toEqual({
          received: Buffer.concat(up).length,
          sent: Buffer.concat(down).length,
          ended: "both-ended",
        });
      },
    ),
    { numRuns: 15 },
  );
});

for (const first of ["client", "target"] as const)
  test(`the ${first} may end first and still gets everything that comes after`, async () => {
    const ends = await joined();
    const [early, late] = first === "client" ? [ends.client, ends.target] : [ends.target, ends.client];
    const atLate = collect(late);
    const atEarly = collect(early);
    early.end("question");
    expect((await atLate).toString()).toBe("question");
    late.write("a late ");
    late.end("answer");
    expect((await atEarly).toString()).toBe("a late answer");
    expect((await ends.done).ended).toBe("both-ended");
  });

for (const who of ["client", "target"] as const)
  test(`a reset by the ${who} reaches the other side as a reset`, async () => {
    const ends = await joined();
    const [breaking, other] = who === "client" ? [ends.client, ends.target] : [ends.target, ends.client];
    const error = new Promise<string | undefined>((resolve) => {
      other.once("error", (caught: NodeJS.ErrnoException) => resolve(caught.code));
      other.once("end", () => resolve("an orderly end"));
    });
    other.resume();
    breaking.resetAndDestroy();
    expect(await error).toBe("ECONNRESET");
    expect((await ends.done).ended).toBe(who === "client" ? "downstream-reset" : "upstream-reset");
  });

test("a reader that stops holds the writer back, and little is kept in between", async () => {
  const { client, target, upstream, downstream } = await joined();
  target.pause();
  const block = randomBytes(64 * 1024);
  let written = 0;
  // Writes until nothing moves any more: the kernel's buffers and ours are full then.
  for (let quiet = 0; quiet < 20; ) {
    if (client.writableLength < 1024 * 1024) {
      client.write(block);
      written += block.length;
      quiet = 0;
    } else quiet++;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(written).toBeGreaterThan(1024 * 1024);
  expect(upstream.writableLength).toBeLessThan(512 * 1024);
  expect(downstream.readableLength).toBeLessThan(256 * 1024);
  const all = collect(target);
  client.end();
  target.resume();
  expect((await all).length).toBe(written);
});

test("a connection on which nothing moves is ended after the idle time, one that moves is not", async () => {
  const clock = new FakeClock();
  const { client, target, done } = await joined({ clock, idleMs: 1000 });
  const got = new Promise((resolve) => target.once("data", resolve));
  clock.advance(900);
  client.write("x");
  await got;
  clock.advance(900);
  expect(target.destroyed).toBe(false);
  clock.advance(200);
  expect((await done).ended).toBe("idle");
});

test("an abort ends both sides", async () => {
  const stop = new AbortController();
  const { done } = await joined({ signal: stop.signal });
  stop.abort();
  expect((await done).ended).toBe("aborted");
});
