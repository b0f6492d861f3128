import type { Mesh, Service, ServicePort } from "../model/index.ts";
import { clusterName, outbound } from "../values/index.ts";
import type { Client } from "./client.ts";

/** Where TCP for a service goes. */
export function tcpDestination(
  _mesh: Mesh,
  { service, port }: { readonly service: Service; readonly port: ServicePort; readonly client: Client },
): string | ReadonlyArray<{ readonly cluster: string; readonly weight: number }> {
  return clusterName(outbound(service.hostname, port.number));
}
