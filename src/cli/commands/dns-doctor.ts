import { Command } from "commander";
import { createColors } from "picocolors";
import { absoluteName, examineDns, type Finding, parseVersion, type Target } from "../../install/index.ts";
import { dnsName } from "../dns-text.ts";
import { type ClusterFlags, withClusters } from "../install-flags.ts";
import { exitCodes, printLine } from "../output.ts";
import { inEach, Telling, withTargets } from "../side-by-side.ts";

interface Flags extends ClusterFlags {
  readonly from?: string;
  readonly domain?: readonly string[];
  readonly corednsVersion?: string;
  readonly namespace: string;
}

/** `isthmus dns doctor [NAME]`: why a name of the mesh does not resolve. */
export function doctorCommand(done: (code: number) => void): Command {
  return withClusters(new Command("doctor"))
    .description(
      "say why a name of the mesh does not resolve: each cause with what was seen and how to mend it; exit code 1 when there is one",
    )
    .argument("[name]", "as the application writes it: httpbin.bar.global")
    .option("--from <namespace[/pod]>", "who asks")
    .option(
      "--domain <name>",
      "a domain of the mesh; may be given several times; those that are installed, else global",
      collect,
    )
    .option("--namespace <name>", "of the mesh's DNS Service", "isthmus-system")
    .option("--coredns-version <version>", "where neither image nor metrics say it")
    .action(async (name: string | undefined, flags: Flags) => {
      const version = flags.corednsVersion === undefined ? undefined : parseVersion(flags.corednsVersion);
      const wish = { name, from: flags.from, domains: flags.domain, version };
      await withTargets(flags, async (targets) => {
        const telling = new Telling(targets);
        const shown = new Map<Target, readonly string[]>();
        await inEach(targets, telling, async (target) => {
          const { api, clock } = target;
          const deps = { api, clock, random: Math.random, namespace: flags.namespace };
          const { facts, findings } = await examineDns(wish, deps);
          if (findings.some(({ level }) => level === "wrong")) done(exitCodes.wrong);
          const absolute = absoluteName(name, facts.status);
          const command =
            absolute === undefined ? [] : [`to ask from within: ${askFrom(target.context, flags.from, absolute)}`];
          shown.set(target, [dnsName(facts.status.found), ...findings.flatMap(findingLines), ...command]);
        });
        for (const target of targets) {
          if (targets.length > 1) printLine(`${target.context}:`);
          for (const line of shown.get(target) ?? []) printLine(targets.length > 1 ? `  ${line}` : line);
        }
      });
    });
}

function findingLines({ level, what, evidence, mend }: Finding): readonly string[] {
  const { green, red, yellow } = createColors(process.stdout.isTTY === true);
  const sign = { wrong: red("✘"), maybe: yellow("!"), fine: green("✔") }[level];
  return [`${sign} ${what}`, `    seen: ${evidence}`, ...(mend === undefined ? [] : [`    mend: ${mend}`])];
}

/** In the pod that was named, or in one made for the question. The last dot keeps search domains out of it. */
function askFrom(context: string, from: string | undefined, name: string): string {
  const [namespace, pod] = (from ?? "").split("/");
  const where = `kubectl --context ${context}${namespace ? ` -n ${namespace}` : ""}`;
  if (pod) return `${where} exec ${pod} -- nslookup ${name}.`;
  return `${where} run dns-check --rm -it --restart=Never --image=busybox -- nslookup ${name}.`;
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}
