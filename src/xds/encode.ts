import { createHash } from "node:crypto";
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Versioned } from "../proto/index.ts";
import type { Origin } from "../values/index.ts";

/** What a resource is made of: its name, its message, and who wrote what it says. */
export interface Made<D extends DescMessage> {
  readonly name: string;
  readonly message: MessageInitShape<D>;
  readonly origins: readonly Origin[];
}

/** Encodes once. The version is a digest of the bytes, so equal content is an equal version anywhere. */
export function versioned<D extends DescMessage>(schema: D, { name, message, origins }: Made<D>): Versioned {
  const bytes = toBinary(schema, create(schema, message));
  return Object.freeze({ name, version: digest(bytes), bytes, origins });
}

/** 96 bits of SHA-256: a version, not a proof. */
export function digest(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("base64url").slice(0, 16);
}

/** A piece of a bigger message, encoded by itself: field bytes that can be written one after the other. */
export interface Piece {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly version: string;
  readonly origins: readonly Origin[];
}

/**
 * A message from pieces that were encoded apart: protobuf reads fields in any order, and a repeated field may be
 * written in several runs, so bytes of partial messages simply follow each other. The version is made from the pieces'
 * versions, which costs their count and not their size.
 */
export function joined(name: string, pieces: readonly Piece[]): Versioned {
  let size = 0;
  let versions = "";
  for (const piece of pieces) {
    size += piece.bytes.length;
    versions += piece.version;
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  const origins: Origin[] = [];
  for (const piece of pieces) {
    bytes.set(piece.bytes, at);
    at += piece.bytes.length;
    for (const origin of piece.origins) if (origin !== origins[origins.length - 1]) origins.push(origin);
  }
  return Object.freeze({ name, version: digest(versions), bytes, origins });
}
