import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Mesh, Service, ServicePort } from "../model/index.ts";
import type { RouteSchema } from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { Hostname, Origin } from "../values/index.ts";
import type { Client } from "./client.ts";

/** The routes that people wrote for a host, not yet made: `inputs` tells whether they would be the same as before. */
export interface FoundRoutes {
  readonly key: string;
  readonly inputs: readonly unknown[];
  readonly origins: readonly Origin[];
  /** Undefined when nobody wrote any for this host and client. */
  readonly routes: () => MessageInitShape<typeof RouteSchema>[] | undefined;
}

export function virtualHostRoutes(
  _mesh: Mesh,
  _parts: {
    readonly service: Service;
    readonly port: ServicePort;
    readonly services: ReadonlyMap<Hostname, Service>;
    readonly client: Client;
  },
): FoundRoutes {
  return { key: "", inputs: [], origins: [], routes: () => undefined };
}
