import { create } from "@bufbuild/protobuf";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DiscoveryRequest,
} from "../proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import type { Versioned } from "../proto/index.ts";
import type { Say } from "./session.ts";
import type { Ask } from "./subscription.ts";

/** What a state-of-the-world request asks. */
export function readRequest(request: DiscoveryRequest): Ask {
  return {
    protocol: "sotw",
    nonce: request.responseNonce,
    error: reasonOf(request.errorDetail),
    names: request.resourceNames,
  };
}

/** What a delta request asks. */
export function readDeltaRequest(request: DeltaDiscoveryRequest): Ask {
  return {
    protocol: "delta",
    nonce: request.responseNonce,
    error: reasonOf(request.errorDetail),
    subscribe: request.resourceNamesSubscribe,
    unsubscribe: request.resourceNamesUnsubscribe,
    held: new Map(Object.entries(request.initialResourceVersions)),
  };
}

/** Longest reason that is kept: it is shown to people, and comes from outside. */
const longestReason = 4096;

function reasonOf(error: { readonly code: number; readonly message: string } | undefined): string | undefined {
  if (!error) return undefined;
  const text = error.message || `error ${error.code} without a message`;
  return text.length > longestReason ? `${text.slice(0, longestReason)}…` : text;
}

/** Our client's request. `nonce` answers a response; `reason` makes the answer a refusal. */
export function writeDeltaRequest(fields: {
  readonly typeUrl: string;
  readonly nonce?: string;
  readonly reason?: string | undefined;
  readonly subscribe?: readonly string[];
  readonly unsubscribe?: readonly string[];
  readonly held?: ReadonlyMap<string, string>;
}): DeltaDiscoveryRequest {
  return create(DeltaDiscoveryRequestSchema, {
    typeUrl: fields.typeUrl,
    responseNonce: fields.nonce ?? "",
    ...(fields.reason === undefined ? {} : { errorDetail: { code: invalidArgument, message: fields.reason } }),
    resourceNamesSubscribe: [...(fields.subscribe ?? [])],
    resourceNamesUnsubscribe: [...(fields.unsubscribe ?? [])],
    initialResourceVersions: Object.fromEntries(fields.held ?? []),
  });
}

/** google.rpc.Code.INVALID_ARGUMENT, which is what proxies refuse with. */
const invalidArgument = 3;

// Responses are put together from resources that were encoded once, whoever they are sent to: field numbers and wire
// types are those of discovery.proto, and a test reads them back with the generated code.

const lengthDelimited = (field: number) => (field << 3) | 2;

/** The resource wrapped for each protocol, made at its first use. */
const deltaEntries = new WeakMap<Versioned, Map<string, Buffer>>();
const sotwEntries = new WeakMap<Versioned, Map<string, Buffer>>();

/** An encoded DeltaDiscoveryResponse. */
export function encodeDeltaResponse(say: Say): Buffer {
  return Buffer.concat([
    ...say.resources.map((resource) => cached(deltaEntries, { resource, typeUrl: say.typeUrl, encode: deltaEntry })),
    text(4, say.typeUrl),
    text(5, say.nonce),
    ...say.removed.map((name) => text(6, name)),
  ]);
}

/** An encoded DiscoveryResponse. Versions mean nothing across streams here, so the nonce serves as version. */
export function encodeResponse(say: Say): Buffer {
  return Buffer.concat([
    text(1, say.nonce),
    ...say.resources.map((resource) => cached(sotwEntries, { resource, typeUrl: say.typeUrl, encode: sotwEntry })),
    text(4, say.typeUrl),
    text(5, say.nonce),
  ]);
}

/** Field 2, a Resource: version 1, resource 2 (an Any), name 3. */
function deltaEntry(typeUrl: string, resource: Versioned): Buffer {
  return bytes(2, Buffer.concat([text(1, resource.version), bytes(2, any(typeUrl, resource)), text(3, resource.name)]));
}

/** Field 2, an Any. */
function sotwEntry(typeUrl: string, resource: Versioned): Buffer {
  return bytes(2, any(typeUrl, resource));
}

function any(typeUrl: string, resource: Versioned): Buffer {
  return Buffer.concat([text(1, typeUrl), bytes(2, resource.bytes)]);
}

function cached(
  cache: WeakMap<Versioned, Map<string, Buffer>>,
  entry: {
    readonly resource: Versioned;
    readonly typeUrl: string;
    readonly encode: (typeUrl: string, resource: Versioned) => Buffer;
  },
): Buffer {
  const { resource, typeUrl, encode } = entry;
  const byType = cache.get(resource) ?? new Map<string, Buffer>();
  const known = byType.get(typeUrl);
  if (known) return known;
  const made = encode(typeUrl, resource);
  cache.set(resource, byType.set(typeUrl, made));
  return made;
}

function text(field: number, value: string): Buffer {
  return bytes(field, Buffer.from(value, "utf8"));
}

function bytes(field: number, value: Uint8Array): Buffer {
  const head: number[] = [lengthDelimited(field)];
  let length = value.length;
  for (; length > 0x7f; length >>>= 7) head.push((length & 0x7f) | 0x80);
  head.push(length);
  return Buffer.concat([Uint8Array.from(head), value]);
}
