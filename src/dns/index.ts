// The names of the mesh over DNS: what is so (zone), how it is said (answers), and who else is asked (forwarder).
// Absent on purpose: anything that knows where names come from, and any zone but those that are handed in.
export { type Outcome, type RespondOptions, type Response, respond } from "./answer.ts";
export { type Forwarded, Forwarder, type ForwardOptions } from "./forward.ts";
export { parseResolvConf, type ResolvConf } from "./resolv-conf.ts";
export { type DnsServer, type DnsServerDeps, startDnsServer } from "./server.ts";
export {
  type Answer,
  buildZone,
  emptyZone,
  negativeTtl,
  positiveTtl,
  type RecordSet,
  type RecordType,
  resolve,
  reverseName,
  type Zone,
  type ZoneName,
  type ZoneOptions,
  type ZonePort,
} from "./zone.ts";
