import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ended, must } from "../../../src/lab/run.ts";
import { podIp, podIps, routerIp } from "./addresses.ts";
import type { Mount } from "./container-root.ts";
import { quote } from "./container-root.ts";
import type { PodObject } from "./pod-object.ts";
import { hostsFile, resolvConf } from "./resolv-conf.ts";

/** A pod's own place: network, host name, files that stand for the machine's. */
export interface PodPlace {
  readonly ip: string;
  /** In front of a command that is to run in its network. */
  readonly enter: readonly string[];
  readonly folder: string;
  readonly mounts: readonly Mount[];
  close(): Promise<void>;
}

/** Gives pods their places in one cluster. */
export class PodPlaces {
  readonly #holders: { readonly router: number; readonly node: number };
  readonly #folder: string;
  readonly #used = new Set<number>();
  #last = 0;
  #made = 0;

  constructor(holders: { readonly router: number; readonly node: number }, folder: string) {
    this.#holders = holders;
    this.#folder = folder;
  }

  async make(pod: PodObject): Promise<PodPlace> {
    const number = this.#freeNumber();
    const ip = podIp(number);
    const folder = join(this.#folder, String(++this.#made));
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    const mounts = podFiles(pod, ip, folder);
    const hostname = pod.spec.hostname ?? pod.metadata.name;
    const interfaceName = `p${this.#made}`;
    let holder: ChildProcess | undefined;
    let closed: Promise<void> | undefined;
    const close = () => {
      closed ??= (async () => {
        holder?.kill("SIGKILL");
        if (holder) await ended(holder);
        this.#used.delete(number);
        rmSync(folder, { recursive: true, force: true });
      })();
      return closed;
    };
    try {
      holder = await hold(hostname);
      await must(`network of pod ${pod.metadata.name}`, [
        "nsenter",
        "-t",
        String(this.#holders.router),
        "-n",
        "sh",
        "-ec",
        networkScript(interfaceName, ip, holder.pid!, sysctls(pod)),
      ]);
    } catch (caught) {
      await close();
      throw caught;
    }
    return { ip, folder, mounts, close, enter: ["nsenter", "-t", String(holder.pid), "-n", "-u", "-i"] };
  }

  /** The lowest would be taken again at once by the next pod, while others still know whose it was. */
  #freeNumber(): number {
    for (let tried = 0; tried < podIps; tried++) {
      this.#last = (this.#last % podIps) + 1;
      if (this.#used.has(this.#last)) continue;
      this.#used.add(this.#last);
      return this.#last;
    }
    throw new Error("no pod address is left");
  }
}

function sysctls(pod: PodObject): readonly string[] {
  const own = pod.spec.securityContext?.sysctls ?? [];
  return own.map(({ name, value }) => `echo ${quote(value)} > /proc/sys/${name.replaceAll(".", "/")}`);
}

/**
 * Run in the router's network. The hardware address belongs to the address, so that who remembers it finds the next pod
 * that has it. Who calls a Service and is sent to itself comes back by the port of the bridge that it left by (`hairpin`).
 */
function networkScript(name: string, ip: string, holder: number, more: readonly string[]): string {
  const mac = ["02", "00", ...ip.split(".").map((part) => Number(part).toString(16).padStart(2, "0"))].join(":");
  return `
ip link add ${name} type veth peer name eth0 address ${mac} netns ${holder}
ip link set ${name} master br0 up
ip link set ${name} type bridge_slave hairpin on
nsenter -t ${holder} -n sh -e <<'END'
ip -batch - <<'IP'
link set lo up
addr add ${ip}/32 dev eth0
link set eth0 up
route add ${routerIp} dev eth0
route add default via ${routerIp}
IP
echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
${more.join("\n")}
END`;
}

/** What the pod sees in place of the machine's files. */
function podFiles(pod: PodObject, ip: string, folder: string): readonly Mount[] {
  const { name, namespace } = pod.metadata;
  const files: Readonly<Record<string, string>> = {
    "/etc/resolv.conf": resolvConf(pod.spec, namespace),
    "/etc/hosts": hostsFile(pod.spec, { name, namespace, ip }),
    "/etc/hostname": `${pod.spec.hostname ?? name}\n`,
    "/etc/nsswitch.conf": nameServiceSwitch(),
  };
  return Object.entries(files).map(([target, text]) => {
    const source = join(folder, target.split("/").at(-1)!);
    writeFileSync(source, text, { mode: 0o644 });
    return { source, target, kind: "file", readOnly: false };
  });
}

/** The machine's own, but names come from files and DNS alone: another resolver would go around the cluster's. */
function nameServiceSwitch(): string {
  const file = "/etc/nsswitch.conf";
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  return `${text.replace(/^hosts:.*$/m, "").trim()}\nhosts: files dns\n`;
}

/** A process that does nothing but hold fresh namespaces; they go with it. */
async function hold(hostname: string): Promise<ChildProcess> {
  const script = `hostname ${quote(hostname)}; echo held; exec sleep 2147483647`;
  const child = spawn("unshare", ["--net", "--uts", "--ipc", "sh", "-ec", script], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(-2000);
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("error", reject);
    child.once("exit", (code) =>
      reject(new Error(`no namespace for "${hostname}": ended with ${code}; ${complaint.trim()}`)),
    );
  });
  return child;
}
