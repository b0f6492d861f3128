import { createHash } from "node:crypto";
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { cached } from "../model/index.ts";
import { RouteConfigurationSchema } from "../proto/gen/envoy/config/route/v3/route_pb.js";
import type { Versioned } from "../proto/index.ts";
import type { Origin, Run, SortedMap } from "../values/index.ts";

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

/** A part of a route configuration. */
export function routesPiece(
  name: string,
  message: MessageInitShape<typeof RouteConfigurationSchema>,
  origins: Piece["origins"],
): Piece {
  const bytes = toBinary(RouteConfigurationSchema, create(RouteConfigurationSchema, message));
  return { name, bytes, version: digest(bytes), origins };
}

/** Whether two resources, or pieces of them, say the same and come from the same places. */
export function sameContent(before: Piece | Versioned, after: Piece | Versioned): boolean {
  return before.version === after.version && JSON.stringify(before.origins) === JSON.stringify(after.origins);
}

/** Reads `make` once, when it is first asked. */
function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** A resource of which parts are big and not always asked for: they are made at the first question. */
export function lazily(parts: {
  readonly name: string;
  readonly version: string;
  readonly bytes: () => Uint8Array;
  readonly origins: () => readonly Origin[];
}): Versioned {
  const bytes = once(parts.bytes);
  const origins = once(parts.origins);
  return Object.freeze({
    name: parts.name,
    version: parts.version,
    get bytes() {
      return bytes();
    },
    get origins() {
      return origins();
    },
  });
}

const versions = new WeakMap<Run<string, readonly Piece[]>, string>();

/**
 * A message from pieces that were encoded apart: protobuf reads fields in any order, and a repeated field may be
 * written in several runs, so bytes of partial messages simply follow each other. The version is made from the pieces'
 * versions, run by run, so it costs what changed. The bytes are put together when somebody sends them.
 */
export function joined(
  name: string,
  {
    first,
    middle,
    last,
  }: { readonly first: Piece; readonly middle: SortedMap<string, readonly Piece[]>; readonly last?: Piece },
): Versioned {
  const ofRuns = middle.runs.map((run) =>
    cached(versions, run, () => digest(run.values.flatMap((pieces) => pieces.map((one) => one.version)).join(""))),
  );
  const pieces = () => [first, ...[...middle.values()].flat(), ...(last ? [last] : [])];
  return lazily({
    name,
    version: digest([first.version, ...ofRuns, last?.version ?? ""].join("")),
    bytes: () => concatenated(pieces()),
    origins: () => [...new Set(pieces().flatMap((one) => one.origins))],
  });
}

/** As `joined`, of a list that is made anew each time. */
export function listed(name: string, pieces: readonly Piece[]): Versioned {
  return lazily({
    name,
    version: digest(pieces.map((one) => one.version).join("")),
    bytes: () => concatenated(pieces),
    origins: () => [...new Set(pieces.flatMap((one) => one.origins))],
  });
}

function concatenated(pieces: readonly Piece[]): Uint8Array {
  const bytes = new Uint8Array(pieces.reduce((size, one) => size + one.bytes.length, 0));
  let at = 0;
  for (const one of pieces) {
    bytes.set(one.bytes, at);
    at += one.bytes.length;
  }
  return bytes;
}
