import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { dial, server } from "../testdata/scene.ts";
import { passReads } from "./pass-reads.ts";
import { keep, lend } from "./read-buffers.ts";
import { readShared, takeReads } from "./reads.ts";

/** Both ends of a connection, the accepted one as the acceptor leaves it. */
async function connected(): Promise<{ readonly client: Socket; readonly accepted: Socket }> {
  let resolve: (socket: Socket) => void;
  const arrived = new Promise<Socket>((done) => {
    resolve = done;
  });
  const listening = await server((socket) => {
    readShared(socket);
    resolve(socket);
  });
  const client = await dial(listening);
  return { client, accepted: await arrived };
}

test("this runtime reads into the buffers that it is given", async () => {
  const { accepted } = await connected();
  expect(takeReads(accepted, () => {})).toBe(true);
});

test("what has come before somebody reads comes first, and what was put back before that", async () => {
  const { client, accepted } = await connected();
  client.write("two ");
  await once(accepted, "readable");
  accepted.unshift(Buffer.from("one "));
  let got = "";
  takeReads(accepted, (bytes) => {
    got += bytes.toString();
  });
  expect(got).toBe("one two ");
  client.end("three");
  await once(accepted, "end");
  expect(got).toBe("one two three");
});

test("bytes that are kept stay as they were while others come", async () => {
  const { client, accepted } = await connected();
  const kept: Buffer[] = [];
  takeReads(accepted, (bytes) => kept.push(keep(bytes)));
  for (const text of ["first", "other"]) {
    client.write(text);
    await expect.poll(() => kept.length).toBe(text === "first" ? 1 : 2);
  }
  expect(kept.map(String)).toEqual(["first", "other"]);
});

test("bytes that are lent stay as they were while others come, and their buffer is used again after that", async () => {
  const { client, accepted } = await connected();
  const lent: Array<{ readonly bytes: Buffer; readonly copy: Buffer; readonly release: () => void }> = [];
  const buffers = new Set<ArrayBufferLike>();
  let lending = true;
  let got = 0;
  takeReads(accepted, (bytes) => {
    got += bytes.length;
    const release = lend(bytes);
    if (!release) return;
    if (!lending) buffers.add(bytes.buffer);
    if (lending) lent.push({ bytes, copy: Buffer.from(bytes), release });
    else release();
  });
  const send = async (size: number) => {
    const expected = got + size;
    client.write(randomBytes(size));
    await expect.poll(() => got, { timeout: 10_000 }).toBe(expected);
  };
  await send(2 * 1024 * 1024);
  expect(lent.length).toBeGreaterThan(1);
  expect(new Set(lent.map(({ bytes }) => bytes.buffer)).size).toBe(lent.length);
  expect(lent.every(({ bytes, copy }) => bytes.equals(copy))).toBe(true);
  for (const { release } of lent) release();
  lending = false;
  await send(2 * 1024 * 1024);
  // Nobody holds what is read now: the socket needs no second buffer.
  expect(buffers.size).toBe(1);
});

test("a paused socket brings nothing until it is resumed, and then all of it", async () => {
  const { client, accepted } = await connected();
  let got = 0;
  takeReads(accepted, (bytes) => {
    got += bytes.length;
    if (got < 10) accepted.pause();
  });
  client.write("12345");
  await expect.poll(() => got).toBe(5);
  client.write("67890");
  await new Promise((resolve) => setImmediate(resolve));
  expect(got).toBe(5);
  accepted.resume();
  await expect.poll(() => got).toBe(10);
});

test("a stream that is no socket is read as streams are", async () => {
  const stream = new PassThrough();
  const got: string[] = [];
  takeReads(stream, (bytes) => got.push(bytes.toString()));
  stream.end("abc");
  await once(stream, "end");
  expect(got).toEqual(["abc"]);
});

test("much that passes on many connections at once reaches each slow reader as it was sent", async () => {
  const size = 12 * 1024 * 1024;
  const passes = Array.from({ length: 6 }, async () => {
    const from = await connected();
    const to = await connected();
    passReads(from.accepted, to.accepted, () => {
      if (to.accepted.writableLength > 256 * 1024) from.accepted.pause();
    });
    to.accepted.on("drain", () => from.accepted.resume());
    from.accepted.on("end", () => to.accepted.end());
    const sent = randomBytes(size);
    from.client.end(sent);
    // Writes wait, and with them the buffers that they go out from.
    await expect.poll(() => to.accepted.writableLength, { timeout: 10_000 }).toBeGreaterThan(0);
    const chunks: Buffer[] = [];
    for await (const chunk of to.client as AsyncIterable<Buffer>) chunks.push(chunk);
    return Buffer.concat(chunks).equals(sent);
  });
  expect(await Promise.all(passes)).toEqual(passes.map(() => true));
});
