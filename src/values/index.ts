// Words of the field, parsed once and trusted after. Pure.
// Absent on purpose: anything that opens, waits or remembers.
export { covers, type Hostname, isWildcard, parseHostname } from "./hostname.ts";
export {
  type Cidr,
  cidrContains,
  formatSocketAddress,
  type Ip,
  ipFamily,
  ipv4FromNumber,
  ipv4ToNumber,
  parseCidr,
  parseIp,
  parseSocketAddress,
  type SocketAddress,
  virtualAddressProblem,
} from "./ip.ts";
export { type Labels, selects } from "./labels.ts";
export { formatOrigin, type Origin } from "./origin.ts";
export { distance, formatLocality, type Locality, nowhere, parseLocality } from "./place.ts";
export { isHttp, isHttp2, isPortNumber, isTls, type Protocol, parseProtocol, protocolOfServicePort } from "./port.ts";
export { type Change, changesBetween, type Run, SortedMap } from "./sorted-map.ts";
export { parseSpiffeId, type SpiffeId, type SpiffeParts, spiffeId, spiffeParts } from "./spiffe.ts";
export { clusterName, outbound, parseClusterName, parseSniName, sniName, type TrafficName } from "./traffic-name.ts";
