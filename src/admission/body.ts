import type { Readable } from "node:stream";

/** Kubernetes' own limit for what is sent to it; an object of 1.5 MiB, old and new, fits. */
export const bodyLimit = 3 * 1024 * 1024;

export type Body = { readonly text: string } | "too-large" | "cut-off" | "not-text";

/** All of a body. Of one that is too large no more than the limit is held. */
export async function readBody(stream: Readable): Promise<Body> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    // What is left of it stays where it is: to close the stream would be to close the connection, and no answer would come.
    for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
      size += (chunk as Buffer).length;
      if (size > bodyLimit) return "too-large";
      chunks.push(chunk as Buffer);
    }
  } catch {
    return "cut-off";
  }
  try {
    return { text: new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)) };
  } catch {
    return "not-text";
  }
}
