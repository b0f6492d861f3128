import { z } from "zod";
import { type Cidr, ipFamily, isHttp, isTls, isWildcard, virtualAddressProblem } from "../../values/index.ts";
import {
  anyCaseLabel,
  cidr,
  hostname,
  labelMap,
  portNumber,
  protocol,
  type Report,
  repeats,
  rule,
  text,
} from "../schema.ts";
import { exportTo, judgeExportTo } from "./export-to.ts";
import { endpoint } from "./workload-entry.ts";

const servicePort = z.strictObject({
  name: anyCaseLabel,
  number: portNumber,
  protocol: protocol.default("unset"),
  targetPort: portNumber.optional(),
});

const fields = z.strictObject({
  hosts: z.array(hostname).min(1).max(256),
  addresses: z.array(cidr).max(256).default([]),
  ports: z.array(servicePort).max(256).default([]),
  location: z.enum(["MESH_EXTERNAL", "MESH_INTERNAL"]).default("MESH_EXTERNAL"),
  resolution: z.enum(["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]).default("NONE"),
  endpoints: z.array(endpoint).max(4096).default([]),
  workloadSelector: z.strictObject({ labels: labelMap.default({}) }).optional(),
  exportTo,
  subjectAltNames: z.array(text).default([]),
});

type Spec = z.output<typeof fields>;

/** The rules, each with the fields that it looks at. */
const spec = [
  { needs: ["ports"], judge: judgePorts },
  { needs: ["hosts", "ports", "resolution"], judge: judgeHosts },
  { needs: ["hosts", "location"], judge: judgeGlobalHosts },
  { needs: ["addresses", "resolution"], judge: judgeAddresses },
  { needs: ["endpoints", "ports", "resolution"], judge: judgeEndpoints },
  { needs: ["endpoints", "workloadSelector", "resolution", "hosts", "addresses"], judge: judgeResolution },
  {
    needs: ["exportTo"],
    judge: (value: Spec, report: Report) => judgeExportTo(value.exportTo, report, { nobody: true }),
  },
].reduce(
  (schema, { needs, judge }) =>
    rule(schema, needs as Array<keyof Spec>, judge as (value: Spec, report: Report) => void),
  fields,
);

/** Of the status only what a control plane gave before; whatever else is in it, or is wrong with it, is none of ours. */
const status = z
  .object({ addresses: z.array(z.object({ value: z.string(), host: z.string() })).optional() })
  .optional()
  .catch(undefined);

export const serviceEntry = z.object({ spec, status });

function judgePorts({ ports }: Spec, report: Report): void {
  if (ports.length === 0) report(["ports"], "ISM0425", "should name at least one port: without, no call can be made");
  for (const { index } of repeats(ports, ({ name }) => name))
    report(["ports", index, "name"], "ISM0405", `another port has the name "${ports[index]!.name}"; names must differ`);
  for (const { index } of repeats(ports, ({ number }) => number))
    report(
      ["ports", index, "number"],
      "ISM0405",
      `another port has the number ${ports[index]!.number}; numbers must differ`,
    );
}

function judgeHosts({ hosts, ports, resolution }: Spec, report: Report): void {
  const opaque = ports.find(({ protocol }) => !isHttp(protocol) && !isTls(protocol));
  if (hosts.length > 1 && opaque && resolution !== "NONE")
    report(
      ["hosts"],
      "ISM0409",
      `several hosts need HTTP or TLS on every port, and port "${opaque.name}" has neither; write a ServiceEntry for each host`,
    );
  if (resolution !== "DYNAMIC_DNS") return;
  for (const [index, host] of hosts.entries())
    if (!isWildcard(host))
      report(["hosts", index], "ISM0415", `must be a wildcard with resolution DYNAMIC_DNS, got "${host}"`);
  if (opaque)
    report(["ports"], "ISM0415", `must all be HTTP or TLS with resolution DYNAMIC_DNS, and "${opaque.name}" is not`);
}

function judgeGlobalHosts({ hosts, location }: Spec, report: Report): void {
  for (const [index, host] of hosts.entries()) {
    if (!host.endsWith(".global")) continue;
    const wellFormed = isWildcard(host) || host.split(".").length === 3;
    if (location === "MESH_EXTERNAL")
      report(
        ["hosts", index],
        "ISM0420",
        `"${host}" is called without mutual TLS; write "location: MESH_INTERNAL" if it runs in another cluster of the mesh`,
      );
    else if (!wellFormed) report(["hosts", index], "ISM0416", `must be <name>.<namespace>.global, got "${host}"`);
  }
}

function judgeAddresses({ addresses, resolution }: Spec, report: Report): void {
  for (const [index, address] of addresses.entries()) {
    const shown = formatCidr(address);
    const single = isSingle(address);
    const problem = virtualAddressProblem(address.ip);
    if (!single && resolution !== "NONE" && resolution !== "STATIC")
      report(
        ["addresses", index],
        "ISM0402",
        `"${shown}" is a range, which needs resolution NONE or STATIC; write single addresses`,
      );
    if (problem === "multicast" || problem === "loopback" || (problem === "unspecified" && single))
      report(
        ["addresses", index],
        "ISM0403",
        `"${shown}" is ${reasons[problem]}; choose one from 240.0.0.0/4, such as 240.0.0.2`,
      );
    if (problem === "link-local")
      report(["addresses", index], "ISM0426", `"${shown}" is link-local and means another thing on every machine`);
  }
  for (const { index } of repeats(addresses, formatCidr))
    report(["addresses", index], "ISM0423", `"${formatCidr(addresses[index]!)}" stands here twice; remove one`);
}

const reasons = {
  multicast: "a multicast address, which is not routed to a service",
  loopback: "a loopback address, which never leaves the caller's machine",
  unspecified: "the address of nothing in particular",
} as const;

function isSingle({ ip, prefix }: Cidr): boolean {
  return prefix === (ipFamily(ip) === 4 ? 32 : 128);
}

function formatCidr(address: Cidr): string {
  return isSingle(address) ? address.ip : `${address.ip}/${address.prefix}`;
}

function judgeEndpoints({ endpoints, ports, resolution }: Spec, report: Report): void {
  const names = ports.map(({ name }) => name);
  for (const [index, { address, ports: mapped }] of endpoints.entries()) {
    if (resolution === "STATIC" && address?.kind === "hostname")
      report(
        ["endpoints", index, "address"],
        "ISM0407",
        `must be an IP address with resolution STATIC, got "${address.hostname}"; write "resolution: DNS"`,
      );
    if (resolution.startsWith("DNS") && address?.kind === "unix")
      report(["endpoints", index, "address"], "ISM0407", 'a unix socket needs "resolution: STATIC"');
    if (address?.kind === "unix" && ports.length !== 1)
      report(["ports"], "ISM0412", `must be exactly one for a unix socket endpoint, got ${ports.length}`);
    for (const key of Object.keys(mapped)) {
      if (names.includes(key)) continue;
      const meant = ports.find(({ number }) => String(number) === key);
      if (meant)
        report(
          ["endpoints", index, "ports", key],
          "ISM0411",
          `must be keyed by the port's name, not its number; write "${meant.name}" in place of "${key}"`,
        );
      else
        report(
          ["endpoints", index, "ports", key],
          "ISM0413",
          `"${key}" is none of the service's ports: ${names.join(", ") || "there are none"}`,
        );
    }
  }
}

function judgeResolution(value: Spec, report: Report): void {
  const { endpoints, workloadSelector, resolution, hosts, addresses } = value;
  if (workloadSelector && endpoints.length > 0)
    report(["workloadSelector"], "ISM0401", "excludes endpoints; keep one of the two");
  if (workloadSelector && Object.keys(workloadSelector.labels).length === 0)
    report(["workloadSelector"], "ISM0421", "without labels selects every workload of the namespace");
  if (workloadSelector && resolution === "NONE")
    report(["workloadSelector"], "ISM0422", 'has no effect with resolution NONE; write "resolution: STATIC"');
  if (resolution === "NONE" && endpoints.length > 0)
    report(
      ["endpoints"],
      "ISM0406",
      'must be empty with resolution NONE; write "resolution: STATIC" or "resolution: DNS"',
    );
  if (resolution === "STATIC" && endpoints.length === 0 && !workloadSelector)
    report(["endpoints"], "ISM0424", "should name at least one endpoint: without, every call fails");
  if (resolution.startsWith("DNS") && endpoints.length === 0 && !workloadSelector)
    for (const [index, host] of hosts.entries())
      if (isWildcard(host))
        report(
          ["hosts", index],
          "ISM0408",
          `"${host}" cannot be resolved; name endpoints, or write a host without wildcard`,
        );
  if (resolution === "DNS_ROUND_ROBIN" && endpoints.length > 1)
    report(["endpoints"], "ISM0414", `must be at most one with resolution DNS_ROUND_ROBIN, got ${endpoints.length}`);
  if (resolution !== "DYNAMIC_DNS") return;
  if (endpoints.length > 0) report(["endpoints"], "ISM0415", "must be empty with resolution DYNAMIC_DNS");
  if (addresses.length > 0) report(["addresses"], "ISM0415", "must be empty with resolution DYNAMIC_DNS");
}
