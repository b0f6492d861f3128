import { Command, Option } from "commander";
import { Failure, systemClock } from "../../base/index.ts";
import {
  createIntermediate,
  createRoot,
  demoOrganization,
  keyTypes,
  readCacertsFiles,
  writeCacerts,
} from "../../ca/index.ts";
import { parseDuration } from "../duration.ts";
import { wholeNumber } from "../flags.ts";
import { printLine } from "../output.ts";

interface MakeFlags {
  readonly out: string;
  readonly keyType: (typeof keyTypes)[number];
  readonly validFor?: string;
  readonly commonName?: string;
  readonly organization?: string;
  readonly replace?: boolean;
  readonly demo?: boolean;
}

/** `isthmus ca root|intermediate`: the four files that a cluster's control plane signs with. */
export function caCommand(): Command {
  const ca = new Command("ca").description("make the shared root and each cluster's own intermediate");
  const making = (command: Command) =>
    command
      .requiredOption("--out <dir>", "where to write ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem")
      .addOption(new Option("--key-type <type>", "kind of key").choices(keyTypes).default("ec-p256"))
      .option("--valid-for <duration>", "life of the certificate, such as 87600h or 3650d")
      .option("--common-name <name>", "name in the certificate")
      .option("--organization <name>", "organisation in the certificate")
      .option("--replace", "replace files that are there already, the key among them")
      .option("--demo", "mark the set as a demo's: refused by a control plane outside a demo");

  making(ca.command("root"))
    .description("a root of trust that signs itself; keep its key offline")
    .option("--path-length <n>", "how many CAs may follow below it", wholeNumber, 1)
    .action((flags: MakeFlags & { pathLength: number }) => {
      writeCacerts(flags.out, createRoot({ ...common(flags), pathLength: flags.pathLength }), replacing(flags));
      printLine(`root of trust written to ${flags.out}; keep ca-key.pem offline`);
    });

  making(ca.command("intermediate"))
    .description("one cluster's CA, signed by the root; load its four files as secret cacerts")
    .requiredOption("--root <dir>", "the folder of the root")
    .requiredOption("--cluster <name>", "whose CA it is")
    .option("--path-length <n>", "how many CAs may follow below it", wholeNumber, 0)
    .action(async (flags: MakeFlags & { root: string; cluster: string; pathLength: number }) => {
      const issuer = await readCacertsFiles(flags.root);
      const files = createIntermediate({
        ...common(flags),
        issuer: complete(flags.root, issuer),
        issuerName: flags.root,
        cluster: flags.cluster,
        pathLength: flags.pathLength,
      });
      writeCacerts(flags.out, files, replacing(flags));
      printLine(`CA of ${flags.cluster} written to ${flags.out}`);
    });
  return ca;
}

function common(flags: MakeFlags) {
  const organization = flags.organization ?? (flags.demo ? demoOrganization : undefined);
  return {
    nowMs: systemClock.now(),
    keyType: flags.keyType,
    ...(flags.validFor ? { validForMs: parseDuration(flags.validFor, "--valid-for") } : {}),
    ...(flags.commonName ? { commonName: flags.commonName } : {}),
    ...(organization ? { organization } : {}),
  };
}

function replacing(flags: MakeFlags) {
  return flags.replace ? { replace: true } : {};
}

function complete<K extends string>(dir: string, files: Readonly<Record<K, string | undefined>>): Record<K, string> {
  const missing = Object.entries<string | undefined>(files).filter(([, text]) => text === undefined);
  if (missing.length === 0) return files as Record<K, string>;
  throw new Failure("ca/cacerts-missing", `no ${missing.map(([name]) => name).join(", ")} in "${dir}"`, {
    hint: `is it the folder that \`isthmus ca root --out ${dir}\` wrote?`,
  });
}
