import type { PodWishes } from "./wishes.ts";

/** The arguments of `isthmus capture` in the pod; what is as it is by itself is left out. */
export function captureArgs({ capture, statusPort, dnsCapture }: PodWishes): readonly string[] {
  const many = (option: string, values: readonly (string | number)[]) =>
    values.length === 0 ? [] : [option, values.join(",")];
  const excluded = [...new Set([...(statusPort === 0 ? [] : [statusPort]), ...capture.excludeInboundPorts])];
  return [
    "capture",
    // An empty list says that nothing is captured, which is not the same as saying nothing.
    "--include-outbound-ranges",
    capture.includeOutboundIPRanges.join(","),
    ...many("--exclude-outbound-ranges", capture.excludeOutboundIPRanges),
    ...many("--include-outbound-ports", capture.includeOutboundPorts),
    ...many("--exclude-outbound-ports", capture.excludeOutboundPorts),
    "--include-inbound-ports",
    capture.includeInboundPorts.join(","),
    ...many("--exclude-inbound-ports", excluded),
    ...many("--virtual-interfaces", capture.interfaces),
    "--dns",
    dnsCapture ? "on" : "off",
  ];
}
