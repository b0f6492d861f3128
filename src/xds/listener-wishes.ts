import type { Service, ServicePort } from "../model/index.ts";
import { type Cidr, type Ip, isHttp, isTls } from "../values/index.ts";

/** Where a listener is, and which routes its HTTP part follows: the port's, or one service's own. */
export interface Bind {
  readonly bind: string;
  readonly port: number;
  readonly routes: string;
}

/** TCP of one port of a service. */
export interface TcpChain {
  readonly service: Service;
  readonly port: ServicePort;
  /** Ranges of destinations; empty for all that reach the listener. */
  readonly ranges: readonly Cidr[];
  readonly serverNames: readonly string[];
}

/** What one port of a service wants of one listener: to be spoken HTTP with, a chain for its TCP, or both. */
export interface Wish {
  readonly name: string;
  readonly bind: Bind;
  readonly service: Service;
  readonly http: boolean;
  readonly chain: TcpChain | undefined;
  /** Whether the listener is on the service's own address, where nobody else is. */
  readonly alone: boolean;
}

const everywhere = "0.0.0.0";

/** What a service wants of the outbound listeners. */
export function wishesOf(service: Service | undefined): readonly Wish[] {
  if (!service) return [];
  return service.ports.filter((port) => port.protocol !== "udp").flatMap((port) => wishesFor(service, port));
}

function wishesFor(service: Service, port: ServicePort): readonly Wish[] {
  const sniffed = port.protocol === "unset";
  const onPort = (http: boolean, chain?: TcpChain): Wish => ({
    name: `${everywhere}_${port.number}`,
    bind: { bind: everywhere, port: port.number, routes: String(port.number) },
    service,
    http,
    chain,
    alone: false,
  });
  if (isHttp(port.protocol)) return [onPort(true)];
  const ips = destinationsOf(service);
  const wishes = ips.map(
    (ip): Wish => ({
      name: `${ip}_${port.number}`,
      bind: { bind: ip, port: port.number, routes: `${service.hostname}:${port.number}` },
      service,
      http: sniffed,
      chain: { service, port, ranges: [], serverNames: [] },
      alone: true,
    }),
  );
  const { ranges } = service;
  if (ips.length > 0 && ranges.length === 0) return wishes;
  // Without an address TCP cannot be told apart: only where it goes on to where it was going anyway is that no harm.
  const harmless = service.resolution === "passthrough" && !service.headless;
  if (ranges.length === 0 && !harmless && !isTls(port.protocol))
    return sniffed && ips.length === 0 && !service.headless ? [...wishes, onPort(true)] : wishes;
  const serverNames = isTls(port.protocol) ? [service.hostname] : [];
  return [...wishes, onPort(sniffed, { service, port, ranges, serverNames })];
}

/** The addresses that callers connect to: virtual ones, or the pods' own where a service has no virtual one. */
function destinationsOf(service: Service): readonly Ip[] {
  if (!service.headless) return service.addresses;
  return [...new Set(service.endpoints.map((one) => one.address as Ip))];
}
