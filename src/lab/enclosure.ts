import { run } from "./run.ts";
import type { ChosenMode, LabMode } from "./types.ts";

/** Tools that the modes with namespaces call, and the Debian package that brings each. */
const tools: Readonly<Record<string, string>> = {
  ip: "iproute2",
  "iptables-restore": "iptables",
  unshare: "util-linux",
  nsenter: "util-linux",
  setpriv: "util-linux",
  mount: "mount",
};

/**
 * `unshare` and its arguments: a new process tree whose end is the end of everything in it. The mount and network
 * namespaces are nobody's but its own, so the kernel takes back every address, rule and mount with the last process.
 */
export function unshareLine(mode: LabMode): readonly string[] {
  const owner = mode === "userns" || (mode === "explicit" && !isRoot()) ? ["--user", "--map-root-user"] : [];
  const network = mode === "explicit" ? [] : ["--net"];
  return [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    ...owner,
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--mount",
    "--mount-proc",
    ...network,
  ];
}

/** Everything that the lab will ask of the kernel, tried in namespaces of their own: what fails here says why. */
const rehearsal = `
set -e
ip link set lo up
ip link add probe type bridge
ip link add probe0 type veth peer name probe1
ip link set probe0 master probe
printf '*nat\\n:OUTPUT ACCEPT [0:0]\\n-A OUTPUT -p tcp OWNER -j REDIRECT --to-ports 15001\\nCOMMIT\\n' | iptables-restore
mount -t tmpfs probe /mnt
unshare --net --mount --uts true
echo 1 > /proc/sys/net/ipv4/ip_forward
`;

/** Not needed by any mode: what people want to call with inside pods. */
const comforts: Readonly<Record<string, string>> = { curl: "curl" };

export interface ModeChoice {
  readonly chosen: ChosenMode;
  /** Packages that were installed on the way. */
  readonly installed: readonly string[];
}

/** What is about to be installed, and for which mode. */
export interface Installing {
  readonly mode: LabMode;
  readonly missing: readonly string[];
  readonly packages: readonly string[];
}

/**
 * The best mode that works here. `forced` is taken or refused with the reason; nothing else is tried then.
 * `onInstall` is called before packages are installed, which only root does.
 */
export async function chooseMode(options: {
  readonly forced?: LabMode;
  readonly onInstall: (news: Installing) => void;
}): Promise<ModeChoice | { readonly refused: string }> {
  const { forced } = options;
  if (forced === "explicit") return choice("explicit", "asked for");
  const because: string[] = [];
  const installed: string[] = [];
  if (process.platform !== "linux") because.push(`this is ${process.platform}, which has no network namespaces`);
  else {
    const missing = await missingOf(Object.keys(tools));
    const wishes = isRoot() ? await missingOf(Object.keys(comforts)) : [];
    if (missing.length + wishes.length > 0) {
      const all = { ...tools, ...comforts };
      const packages = [...new Set([...missing, ...wishes].map((tool) => all[tool]!))];
      const wanted = forced ?? (isRoot() ? "netns" : "userns");
      const failed = isRoot()
        ? await install(packages, () => options.onInstall({ mode: wanted, missing: [...missing, ...wishes], packages }))
        : "only root could install it";
      if (failed === undefined) installed.push(...packages);
      else if (missing.length > 0) because.push(`"${missing.join('", "')}" is missing and ${failed}`);
    }
    if (because.length === 0) {
      const wanted: readonly LabMode[] = forced ? [forced] : isRoot() ? ["netns", "userns"] : ["userns"];
      for (const mode of wanted) {
        if (mode === "netns" && !isRoot()) {
          because.push("network namespaces need root");
          continue;
        }
        const problem = await rehearse(mode);
        if (problem === undefined) {
          const reason = {
            netns: "running as root, so every pod is a network namespace",
            userns: "a user namespace lets every pod be a network namespace without root",
          }[mode as "netns" | "userns"];
          const added = installed.length > 0 ? [`${installed.join(", ")} was installed for it`] : [];
          return choice(mode, [forced ? "asked for" : reason, ...added, ...because].join("; "), installed);
        }
        because.push(`${mode} does not work here: ${problem}`);
      }
    }
  }
  if (forced) return { refused: because.join("; ") };
  return choice("explicit", because.join("; "), installed);
}

function choice(mode: LabMode, reason: string, installed: readonly string[] = []): ModeChoice {
  return { chosen: { mode, reason }, installed };
}

async function rehearse(mode: LabMode): Promise<string | undefined> {
  const owner = mode === "netns" ? "-m owner --uid-owner 1337" : "-d 240.0.0.0/4";
  const script = rehearsal.replace("OWNER", owner);
  const { code, stderr } = await run([...unshareLine(mode), "sh", "-c", script], {
    env: toolEnv(),
    timeoutMs: 20_000,
  });
  return code === 0 ? undefined : stderr.trim().split("\n").slice(-2).join("; ") || `exit code ${code}`;
}

/** Whether a process tree of its own can be had for the explicit mode, where it is a comfort and not a need. */
export async function canEnclose(): Promise<boolean> {
  if (process.platform !== "linux") return false;
  const { code } = await run([...unshareLine("explicit"), "true"], { env: toolEnv(), timeoutMs: 10_000 });
  return code === 0;
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** The environment for tools: Debian keeps some of them where only root's path looks. */
export function toolEnv(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env["PATH"] ?? "/usr/bin:/bin"}:/usr/local/sbin:/usr/sbin:/sbin` };
}

async function missingOf(names: readonly string[]): Promise<readonly string[]> {
  const script = `for t in ${names.join(" ")}; do command -v $t >/dev/null 2>&1 || echo $t; done`;
  const { stdout } = await run(["sh", "-c", script], { env: toolEnv() });
  return stdout.split("\n").filter((name) => name !== "");
}

/** Installs packages with apt-get; what went wrong, or undefined. */
async function install(packages: readonly string[], onInstall: () => void): Promise<string | undefined> {
  const env = { ...toolEnv(), DEBIAN_FRONTEND: "noninteractive" };
  if ((await run(["sh", "-c", "command -v apt-get"], { env })).code !== 0) return "there is no apt-get to install it";
  onInstall();
  const line = ["apt-get", "install", "-y", "-q", "--no-install-recommends", ...packages];
  if ((await run(line, { env, timeoutMs: 300_000 })).code === 0) return undefined;
  // A fresh image has no package lists yet.
  await run(["apt-get", "update", "-q"], { env, timeoutMs: 300_000 });
  const second = await run(line, { env, timeoutMs: 300_000 });
  return second.code === 0 ? undefined : `apt-get could not install it: ${second.stderr.trim().split("\n").at(-1)}`;
}
