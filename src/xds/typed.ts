import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import type { Any, Duration } from "@bufbuild/protobuf/wkt";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import type { Address } from "../proto/gen/envoy/config/core/v3/address_pb.js";
import { AddressSchema } from "../proto/gen/envoy/config/core/v3/address_pb.js";
import {
  ApiConfigSource_ApiType,
  ApiVersion,
  type ConfigSource,
  ConfigSourceSchema,
} from "../proto/gen/envoy/config/core/v3/config_source_pb.js";
import { pack } from "../proto/index.ts";

/** The fields of a message, to be spread into those of another part of the same message. */
export type Fields<D extends DescMessage> = Exclude<MessageInitShape<D>, { $typeName: string }>;

/** A message, made and packed, as the `typed_config` of an extension. */
export function typed<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Any {
  return pack(schema, create(schema, message));
}

/** An extension by name, in the shape of every `{name, typed_config}` message. */
export function extension<D extends DescMessage>(name: string, schema: D, message: MessageInitShape<D>) {
  return { name, configType: { case: "typedConfig" as const, value: typed(schema, message) } };
}

export function milliseconds(ms: number): Duration {
  return create(DurationSchema, { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.round((ms % 1000) * 1e6) });
}

export function socketAddress(address: string, port: number): Address {
  return create(AddressSchema, {
    address: {
      case: "socketAddress",
      value: { address, portSpecifier: { case: "portValue", value: port } },
    },
  });
}

/** An endpoint's address: a host and port, or the path of a Unix socket. */
export function endpointAddress(address: string, port: number): Address {
  if (!address.startsWith("unix://")) return socketAddress(address, port);
  return create(AddressSchema, { address: { case: "pipe", value: { path: address.slice("unix://".length) } } });
}

/** Asked for over the same aggregated stream. */
export const fromAds: ConfigSource = create(ConfigSourceSchema, {
  resourceApiVersion: ApiVersion.V3,
  configSourceSpecifier: { case: "ads", value: {} },
  initialFetchTimeout: milliseconds(0),
});

function agent(apiType: ApiConfigSource_ApiType): ConfigSource {
  return create(ConfigSourceSchema, {
    resourceApiVersion: ApiVersion.V3,
    configSourceSpecifier: {
      case: "apiConfigSource",
      value: {
        apiType,
        transportApiVersion: ApiVersion.V3,
        setNodeOnFirstMessageOnly: true,
        grpcServices: [{ targetSpecifier: { case: "envoyGrpc", value: { clusterName: "sds-grpc" } } }],
      },
    },
    initialFetchTimeout: milliseconds(0),
  });
}

/** The proxy's own key comes from what stands beside it, by its own socket: it never passes the control plane. */
export const fromAgent: ConfigSource = agent(ApiConfigSource_ApiType.GRPC);

/** Files of the proxy's machine too. Only in this protocol can it be said that one is not there, so that nobody waits. */
export const filesFromAgent: ConfigSource = agent(ApiConfigSource_ApiType.DELTA_GRPC);
