import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import type { Any, Duration } from "@bufbuild/protobuf/wkt";
import { isPacked } from "../../proto/index.ts";

/** One reason for which a resource cannot be run: `filter_chains[0].filters[1]: …`. */
export interface Refusal {
  /** Field path in the names of the protocol; empty for the whole resource. */
  readonly path: string;
  readonly message: string;
}

/** A message read to what we run, or everything that keeps us from it. */
export type Read<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly refusals: readonly Refusal[] };

/** Where in a message the reader stands. Refusals of all places of one message end up in one list. */
export class Place {
  readonly path: string;
  readonly #refusals: Refusal[];

  constructor(path = "", refusals: Refusal[] = []) {
    this.path = path;
    this.#refusals = refusals;
  }

  /** A field by its protocol name (`filter_chains`). */
  field(name: string): Place {
    return new Place(this.path === "" ? name : `${this.path}.${name}`, this.#refusals);
  }

  item(index: number): Place {
    return new Place(`${this.path}[${index}]`, this.#refusals);
  }

  /** Writes down a refusal. Gives undefined, so that a reader can return it. */
  refuse(message: string): undefined {
    this.#refusals.push({ path: this.path, message });
    return undefined;
  }

  get refusals(): readonly Refusal[] {
    return this.#refusals;
  }
}

/** Bytes of a resource through `read` to a value; bytes that are no such message are one refusal. */
export function readBytes<D extends DescMessage, T>(
  schema: D,
  bytes: Uint8Array,
  read: (message: MessageShape<D>, place: Place) => T | undefined,
): Read<T> {
  const place = new Place();
  let message: MessageShape<D>;
  try {
    message = fromBinary(schema, bytes);
  } catch (caught) {
    // The decoder throws plain errors on truncated or malformed bytes, and nothing else.
    return { ok: false, refusals: [{ path: "", message: `is no ${schema.typeName}: ${(caught as Error).message}` }] };
  }
  const value = read(message, place);
  if (place.refusals.length > 0) return { ok: false, refusals: place.refusals };
  if (value === undefined) throw new Error(`BUG: ${schema.typeName} came to nothing without a reason`);
  return { ok: true, value };
}

/** The message in `any`; undefined after a refusal when it is of another type or its bytes are malformed. */
export function readAny<D extends DescMessage>(
  any: Any | undefined,
  schema: D,
  place: Place,
): MessageShape<D> | undefined {
  if (!any) return place.refuse(`is missing; it must hold a ${schema.typeName}`);
  if (!isPacked(any, schema)) return place.refuse(`must hold a ${schema.typeName}, got "${any.typeUrl}"`);
  try {
    return fromBinary(schema, any.value);
  } catch (caught) {
    return place.refuse(`is no ${schema.typeName}: ${(caught as Error).message}`);
  }
}

/** A duration in milliseconds, or `otherwise` when absent; negative ones are refused. */
export function readDuration<T>(duration: Duration | undefined, otherwise: T, place: Place): number | T {
  if (!duration) return otherwise;
  const ms = Number(duration.seconds) * 1000 + duration.nanos / 1e6;
  if (!Number.isFinite(ms) || ms < 0) {
    place.refuse("must not be negative");
    return otherwise;
  }
  return ms;
}

/** All refusals of one resource as the sentence of a NACK. */
export function formatRefusals(refusals: readonly Refusal[]): string {
  return refusals.map(({ path, message }) => (path === "" ? message : `${path}: ${message}`)).join("; ");
}
