import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { Command, Option } from "commander";
import { Failure, systemClock } from "../../base/index.ts";
import { parseResolvConf } from "../../dns/index.ts";
import { type Applied, applyCapture, type CaptureOptions, captureRules, proxyUid } from "../../proxy/index.ts";
import { parseCidr } from "../../values/index.ts";
import { list } from "../agent-flags.ts";
import { portNumber, wholeNumber } from "../flags.ts";
import { printLine } from "../output.ts";

interface Flags {
  readonly includeOutboundRanges: string;
  readonly excludeOutboundRanges: string;
  readonly includeOutboundPorts: string;
  readonly excludeOutboundPorts: string;
  readonly includeInboundPorts: string;
  readonly excludeInboundPorts: string;
  readonly virtualInterfaces: string;
  readonly dns: "on" | "off" | "all";
  readonly ipv6: "auto" | "on" | "off";
  readonly proxyUid: number;
  readonly proxyGid: number;
  readonly dryRun: boolean;
}

/** `isthmus capture`: what the init container of a pod does, before its proxy is there. */
export function captureCommand(): Command {
  return new Command("capture")
    .description("redirect the connections of this network namespace to the proxy that will run in it")
    .option("--include-outbound-ranges <cidr,…>", "captured on the way out; * for all, empty for none", "*")
    .option("--exclude-outbound-ranges <cidr,…>", "of these, left alone", "")
    .option("--include-outbound-ports <port,…>", "captured on the way out in whatever range", "")
    .option("--exclude-outbound-ports <port,…>", "left alone on the way out", "")
    .option("--include-inbound-ports <port,…>", "captured on the way in; * for all, empty for none", "*")
    .option("--exclude-inbound-ports <port,…>", "left alone on the way in; 22 and the proxy's own always are", "")
    .option("--virtual-interfaces <name,…>", "by which virtual machines in the pod send", "")
    .addOption(
      new Option(
        "--dns <which>",
        "questions that the proxy answers: to the name servers of resolv.conf, to any, or none",
      )
        .choices(["on", "all", "off"])
        .default("on"),
    )
    .addOption(
      new Option("--ipv6 <when>", "write rules for IPv6 too; auto: where the pod has no IPv4 address")
        .choices(["auto", "on", "off"])
        .default("auto"),
    )
    .option("--proxy-uid <id>", "user of the proxy, whose connections are let go", wholeNumber, proxyUid)
    .option("--proxy-gid <id>", "group of the proxy", wholeNumber, proxyUid)
    .option("--dry-run", "print the rules and change nothing", false)
    .action(async (flags: Flags) => {
      for (const family of families(flags.ipv6)) {
        const options = optionsFrom(flags, family);
        if (flags.dryRun) printLine(`# IPv${family}\n${captureRules(options).trimEnd()}`);
        else printLine(told(family, await applyCapture(options, { clock: systemClock })));
      }
    });
}

function told(family: 4 | 6, { command, rules, proof }: Applied): string {
  const proven = proof === "connection" ? "a connection came out at the proxy's port" : `not tried out: ${proof.none}`;
  return `IPv${family}: ${rules} rules written by ${command} and read back; ${proven}`;
}

function families(ipv6: Flags["ipv6"]): readonly (4 | 6)[] {
  const found = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !/^fe[89ab]/i.test(address));
  const has = (family: 4 | 6) => found.some((one) => one.family === `IPv${family}`);
  if (ipv6 === "on") return has(4) || !has(6) ? [4, 6] : [6];
  return ipv6 === "auto" && has(6) && !has(4) ? [6] : [4];
}

function optionsFrom(flags: Flags, family: 4 | 6): CaptureOptions {
  const inbound = ports(flags.includeInboundPorts, "--include-inbound-ports");
  return {
    family,
    outbound: {
      by: "owner",
      cidrs:
        flags.includeOutboundRanges === "*" ? "all" : ranges(flags.includeOutboundRanges, "--include-outbound-ranges"),
      ports: numbers(flags.includeOutboundPorts, "--include-outbound-ports"),
      excludeCidrs: ranges(flags.excludeOutboundRanges, "--exclude-outbound-ranges"),
      excludePorts: numbers(flags.excludeOutboundPorts, "--exclude-outbound-ports"),
      interfaces: list(flags.virtualInterfaces).map(interfaceName),
      uid: flags.proxyUid,
      gid: flags.proxyGid,
    },
    inbound: { ports: inbound, exclude: numbers(flags.excludeInboundPorts, "--exclude-inbound-ports") },
    dns: flags.dns === "on" ? nameservers() : flags.dns,
  };
}

/** Of the pod; without any that can be read, all are meant. */
function nameservers(): CaptureOptions["dns"] {
  try {
    const { nameservers: found } = parseResolvConf(readFileSync("/etc/resolv.conf", "utf8"));
    return found.length > 0 ? found : "all";
  } catch {
    return "all";
  }
}

function ports(text: string, option: string): "all" | readonly number[] {
  return text === "*" ? "all" : numbers(text, option);
}

function numbers(text: string, option: string): readonly number[] {
  return list(text).map((one) => portNumber(one, option));
}

function ranges(text: string, option: string): readonly string[] {
  return list(text).map((one) => {
    if (parseCidr(one)) return one;
    throw new Failure("usage/address", `${option}: "${one}" is no range of addresses`, {
      hint: "write 10.0.0.0/8 or fd00::/8",
    });
  });
}

function interfaceName(name: string): string {
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/.test(name)) return name;
  throw new Failure("usage/name", `--virtual-interfaces: "${name}" is no name of an interface`);
}
