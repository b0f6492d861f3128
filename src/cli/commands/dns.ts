import { Command, Option } from "commander";
import { Failure } from "../../base/index.ts";
import {
  type DnsDeps,
  type Form,
  forms,
  guideConfigMap,
  installClusterDns,
  type Loading,
  parseVersion,
  removeClusterDns,
  statusOfClusterDns,
  type Target,
  type Tell,
  type Version,
  type Written,
} from "../../install/index.ts";
import { writeManifest } from "../../resources/index.ts";
import { type Ip, parseHostname, parseIp } from "../../values/index.ts";
import { askCommand, diffText, dnsName, loadingText, statusLines, writtenText } from "../dns-text.ts";
import { parseDuration } from "../duration.ts";
import { type ClusterFlags, withClusters } from "../install-flags.ts";
import { exitCodes, printLine } from "../output.ts";
import { inEach, Telling, withTargets } from "../side-by-side.ts";
import { doctorCommand } from "./dns-doctor.ts";

type Done = (code: number) => void;

interface Common extends ClusterFlags {
  readonly domain?: readonly string[];
  readonly ip?: readonly string[];
  readonly form?: Form;
  readonly corednsVersion?: string;
  readonly namespace: string;
}

interface WriteFlags extends Common {
  readonly restart: boolean;
  readonly wait: string;
  readonly dryRun: boolean;
}

interface InstallFlags extends WriteFlags {
  readonly nodeLocal: boolean;
  readonly replace: boolean;
  readonly complete: boolean;
  readonly force: boolean;
}

const restartHelp = "start the DNS's pods anew, one by one, where they do not read their file again by themselves";

/** `isthmus dns …`: the cluster's DNS asks the mesh's for its names. */
export function dnsCommand(done: Done): Command {
  const dns = new Command("dns").description(
    "make a cluster's own DNS ask the mesh for names such as httpbin.bar.global",
  );
  const common = (command: Command) =>
    withClusters(command)
      .option("--domain <name>", "a domain of the mesh; may be given several times; global unless given", collect)
      .option("--namespace <name>", "of the mesh's DNS Service", "isthmus-system");
  const knowing = (command: Command) =>
    common(command)
      .option("--ip <address>", "ask this instead of the Service isthmus-dns; may be given several times", collect)
      .addOption(new Option("--form <form>", "instead of what the running DNS says").choices(forms))
      .option("--coredns-version <version>", "where neither image nor metrics say it");

  knowing(dns.command("install"))
    .description("forward the mesh's domains, in whichever of the four forms the running DNS takes; twice is as once")
    .option("--node-local", "tell the cache on each node as well (node-local-dns)", false)
    .option("--replace", "take the place of a zone that somebody made by hand; remove puts it back", false)
    .option("--complete", "add the lines of the form that the main block lacks (ready, forward)", false)
    .option("--force", "write although CoreDNS would not load the Corefile as it stands", false)
    .option("--restart", restartHelp, false)
    .option("--wait <duration>", "how long to wait until it is loaded; 0s: not at all", "150s")
    .option("--dry-run", "print what would change", false)
    .action((flags: InstallFlags) => install(flags, done));

  knowing(dns.command("status"))
    .description("what stands in each cluster's DNS, and whether it is what is wanted now; exit code 1 when not")
    .action((flags: Common) => status(flags, done));

  common(dns.command("remove"))
    .description("take out what install wrote (all of it unless domains are named), and nothing else")
    .option("--restart", restartHelp, false)
    .option("--wait <duration>", "how long to wait until it is loaded; 0s: not at all", "0s")
    .option("--dry-run", "print what would change", false)
    .action((flags: WriteFlags) => remove(flags, done));

  dns
    .command("manifest")
    .description("the ConfigMap of a form in full, for a cluster whose DNS has none to keep; nothing is applied")
    .addOption(new Option("--form <form>", "which").choices(forms).makeOptionMandatory())
    .requiredOption("--ip <address>", "of the mesh's DNS Service; may be given several times", collect)
    .option("--domain <name>", "a domain of the mesh; may be given several times; global unless given", collect)
    .option("--cluster-domain <name>", "of the cluster's own services", "cluster.local")
    .action((flags: { form: Form; ip: readonly string[]; domain?: readonly string[]; clusterDomain: string }) => {
      const { form, clusterDomain } = flags;
      const wish = { form, domains: domainsOf(flags) ?? ["global"], ips: ipsOf(flags) ?? [], clusterDomain };
      process.stdout.write(writeManifest([guideConfigMap(wish)]));
    });

  dns.addCommand(doctorCommand(done));
  return dns;
}

async function install(flags: InstallFlags, done: Done): Promise<void> {
  const wish = { ...flags, ...wishOf(flags), domains: domainsOf(flags) ?? ["global"], waitMs: waitOf(flags) };
  await withTargets(flags, async (targets) => {
    const telling = new Telling(targets);
    await inEach(targets, telling, async (target, tell) => {
      const waiting = (loading: Loading) => tell({ kind: "waiting", text: loadingText(loading).text });
      const result = await installClusterDns({ ...wish, tell: waiting }, depsOf(target, flags));
      tell({ kind: "done", text: dnsName(result.found) });
      for (const one of result.written) tellWritten(one, { flags, tell, done, word: `asks ${result.ips.join(", ")}` });
      for (const text of result.warnings) tell({ kind: "note", text });
      if (flags.dryRun) return;
      for (const domain of wish.domains)
        tell({ kind: "note", text: `to see it from within: ${askCommand(target.context, domain)}` });
    });
  });
}

async function remove(flags: WriteFlags, done: Done): Promise<void> {
  const wish = { ...flags, domains: domainsOf(flags), waitMs: waitOf(flags) };
  await withTargets(flags, async (targets) => {
    const telling = new Telling(targets);
    await inEach(targets, telling, async (target, tell) => {
      const waiting = (loading: Loading) => tell({ kind: "waiting", text: loadingText(loading).text });
      const { written } = await removeClusterDns({ ...wish, tell: waiting }, depsOf(target, flags));
      if (written.length === 0) tell({ kind: "done", text: "there is nothing of the mesh in this cluster's DNS" });
      for (const one of written) tellWritten(one, { flags, tell, done, word: "is as it was without the mesh" });
    });
  });
}

function tellWritten(
  one: Written,
  given: { readonly flags: WriteFlags; readonly tell: Tell; readonly done: Done; readonly word: string },
): void {
  const { flags, tell, done, word } = given;
  if (flags.dryRun) {
    const text = diffText(one);
    tell({ kind: "note", text: text === "" ? writtenText(one, word) : `would change:\n${text.trimEnd()}` });
  } else tell({ kind: "done", text: writtenText(one, word) });
  for (const text of one.change.notes) tell({ kind: "note", text });
  if (!one.loading) return;
  const { good, text } = loadingText(one.loading);
  tell({ kind: one.loading.kind === "loaded" ? "done" : good || waitOf(flags) === 0 ? "note" : "failed", text });
  if (!good && waitOf(flags) > 0) done(exitCodes.wrong);
}

async function status(flags: Common, done: Done): Promise<void> {
  await withTargets(flags, async (targets) => {
    const telling = new Telling(targets);
    const shown = new Map<Target, readonly string[]>();
    await inEach(targets, telling, async (target) => {
      const result = await statusOfClusterDns({ ...wishOf(flags), domains: domainsOf(flags) }, depsOf(target, flags));
      shown.set(target, statusLines(result));
      if (!result.good) done(exitCodes.wrong);
    });
    for (const target of targets) {
      if (targets.length > 1) printLine(`${target.context}:`);
      for (const line of shown.get(target) ?? []) printLine(targets.length > 1 ? `  ${line}` : line);
    }
  });
}

function depsOf({ api, clock }: Target, { namespace }: { readonly namespace: string }): DnsDeps {
  return { api, clock, random: Math.random, namespace };
}

function wishOf(flags: Common): {
  readonly form: Form | undefined;
  readonly version: Version | undefined;
  readonly ips: readonly Ip[] | undefined;
} {
  const version = flags.corednsVersion === undefined ? undefined : parseVersion(flags.corednsVersion);
  if (flags.corednsVersion !== undefined && !version) {
    throw new Failure("usage/version", `--coredns-version: "${flags.corednsVersion}" is no version`, {
      hint: "write 1.11.1",
    });
  }
  return { form: flags.form, version, ips: ipsOf(flags) };
}

function ipsOf({ ip }: { readonly ip?: readonly string[] }): readonly Ip[] | undefined {
  return ip?.map((text) => {
    const read = parseIp(text);
    if (!read) throw new Failure("usage/address", `--ip: "${text}" is no address`, { hint: "write 10.96.0.53" });
    return read;
  });
}

function domainsOf({ domain }: { readonly domain?: readonly string[] }): readonly string[] | undefined {
  return domain?.map((text) => {
    const name = parseHostname(text.replace(/\.$/, ""));
    if (name && !name.includes("*")) return name;
    throw new Failure("usage/name", `--domain: "${text}" is no DNS name`, {
      hint: "write global, or mesh.example.com",
    });
  });
}

function waitOf({ wait }: { readonly wait: string }): number {
  return /^0(ms|s|m|h|d)?$/.test(wait) ? 0 : parseDuration(wait, "--wait");
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}
