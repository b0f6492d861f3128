import { spawn } from "node:child_process";
import { Failure } from "../../base/index.ts";

/** The packet filter of this network namespace by its commands, in one of the forms that a machine may have. */
export interface Iptables {
  /** `iptables`, `iptables-nft` or `iptables-legacy`, or the same with `ip6tables`. */
  readonly command: string;
  /** Table nat as it is. */
  save(): Promise<string>;
  /** Lines of a table, all or nothing, beside what is there. */
  restore(rules: string): Promise<void>;
}

interface Ended {
  readonly status: number | "absent";
  readonly stdout: string;
  readonly stderr: string;
}

/** The plain name first: it is what the image's maker chose. The others help where that one is not the kernel's. */
const endings = ["", "-nft", "-legacy"] as const;

/** The first form that this kernel answers. Throws `capture/…` that says why none does. */
export async function findIptables(family: 4 | 6): Promise<Iptables> {
  const tried: { readonly command: string; readonly said: string }[] = [];
  for (const ending of endings) {
    const command = `${family === 4 ? "iptables" : "ip6tables"}${ending}`;
    const { status, stderr } = await run([command, "-w", "5", "-t", "nat", "-S"]);
    if (status === "absent") continue;
    if (status === 0) return iptablesOf(command);
    tried.push({ command, said: firstLine(stderr) || `exit code ${status}` });
  }
  const [first] = tried;
  const name = family === 4 ? "iptables" : "ip6tables";
  if (first === undefined) {
    throw new Failure("capture/no-iptables", `there is no ${name} on PATH`, {
      hint: "it is in the package iptables; the image isthmus/isthmus has it, so is another one used for istio-init?",
    });
  }
  const said = tried.map((one) => `${one.command}: ${one.said}`).join("; ");
  if (tried.some((one) => /permission denied|operation not permitted|you must be root/i.test(one.said))) {
    throw new Failure("capture/no-right", `the packet filter may not be changed: ${said}`, {
      hint: "istio-init must run as user 0 with the capabilities NET_ADMIN and NET_RAW; does a policy of the cluster take them away?",
    });
  }
  throw new Failure("capture/no-table", `no form of ${name} finds its table nat in this kernel: ${said}`, {
    hint: "the node's kernel needs nf_tables with nf_nat, or ip_tables with iptable_nat; load the module on the node",
  });
}

function iptablesOf(command: string): Iptables {
  const must = async (argv: readonly string[], input?: string) => {
    const { status, stdout, stderr } = await run(argv, input);
    if (status === 0) return stdout;
    throw new Failure("capture/refused", `${argv.join(" ")} failed: ${stderr.trim() || `exit code ${status}`}`, {
      hint: "isthmus capture --dry-run prints the rules that were to be written",
    });
  };
  return {
    command,
    save: () => must([`${command}-save`, "-t", "nat"]),
    restore: async (rules) => {
      await must([`${command}-restore`, "--noflush", "-w", "5"], rules);
    },
  };
}

function run(argv: readonly string[], input?: string): Promise<Ended> {
  return new Promise((resolve) => {
    const [program, ...args] = argv;
    const child = spawn(program!, args, { stdio: ["pipe", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (part: string) => {
      stdout += part;
    });
    child.stderr.setEncoding("utf8").on("data", (part: string) => {
      stderr += part;
    });
    child.once("error", (error: NodeJS.ErrnoException) =>
      resolve({ status: error.code === "ENOENT" ? "absent" : 126, stdout, stderr: error.message }),
    );
    child.once("close", (code) => resolve({ status: code ?? 128, stdout, stderr }));
    // A program that ends at once reads nothing; its exit code says why.
    child.stdin.on("error", () => {});
    child.stdin.end(input ?? "");
  });
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}
