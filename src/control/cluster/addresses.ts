import { isAutomatic, wantsAddress } from "../../model/index.ts";
import type { ServiceEntry } from "../../resources/index.ts";
import { type Hostname, type Ip, parseIp, type SortedMap } from "../../values/index.ts";

/** As it stands in an entry's `status.addresses`. */
export interface GivenAddress {
  readonly host: string;
  readonly value: string;
}

/** What the mesh gave to the hosts of an entry; nothing where its author chose. Undefined while a host still waits. */
export function givenAddresses(
  entry: ServiceEntry,
  given: SortedMap<Hostname, Ip>,
): readonly GivenAddress[] | undefined {
  const hosts = entry.spec.hosts.filter((host) => wantsAddress(entry, host));
  const addresses = hosts.flatMap((host) => {
    const value = given.get(host);
    return value === undefined ? [] : [{ host, value }];
  });
  return addresses.length === hosts.length ? addresses : undefined;
}

/**
 * The list to write, or undefined when it is right. Addresses that no mesh of ours gives (another family, another range)
 * are somebody else's and stay with the hosts that they are for.
 */
export function nextAddresses(
  written: readonly GivenAddress[],
  wanted: readonly GivenAddress[],
): readonly GivenAddress[] | undefined {
  const ours = (value: string) => {
    const ip = parseIp(value);
    return ip !== undefined && isAutomatic(ip);
  };
  const others = written.filter(({ value }) => !ours(value));
  const before = written.filter(({ value }) => ours(value));
  const right =
    before.length === wanted.length &&
    wanted.every(({ host, value }) => before.some((one) => one.host === host && one.value === value));
  return right ? undefined : [...wanted, ...others];
}
