import type { Node } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import type { DeltaDiscoveryRequest, DiscoveryRequest } from "../proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { typeUrls } from "../proto/index.ts";
import type { Ask } from "./subscription.ts";
import { encodeDeltaResponse, encodeResponse, readDeltaRequest, readRequest } from "./wire.ts";

/** What differs between the two ways of saying the same. */
export interface Protocol<Request> {
  readonly name: Ask["protocol"];
  readonly node: (request: Request) => Node | undefined;
  readonly typeUrl: (request: Request) => string;
  readonly ask: (request: Request) => Ask;
  readonly encode: typeof encodeResponse;
}

export const sotw: Protocol<DiscoveryRequest> = {
  name: "sotw",
  node: ({ node }) => node,
  typeUrl: ({ typeUrl }) => typeUrl,
  ask: readRequest,
  encode: encodeResponse,
};

export const delta: Protocol<DeltaDiscoveryRequest> = {
  name: "delta",
  node: ({ node }) => node,
  typeUrl: ({ typeUrl }) => typeUrl,
  ask: readDeltaRequest,
  encode: encodeDeltaResponse,
};

/** A stream of the secret service is of one type, whether its requests say so or not. */
export function secretsOf<Request>(protocol: Protocol<Request>): Protocol<Request> {
  return { ...protocol, typeUrl: () => typeUrls.secret };
}
