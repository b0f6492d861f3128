import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../base/index.ts";
import { type CaptureOptions, captureRules, proxyUid } from "../proxy/index.ts";
import { searchDomains } from "./command-lines.ts";
import {
  addressPlan,
  type ClusterNetwork,
  type LabNetwork,
  type PodNetwork,
  type PodNetworkOptions,
  podCidr,
  serviceCidr,
  systemCidr,
  virtualCidr,
} from "./network.ts";
import { outerRules, routerRules } from "./router-rules.ts";
import { ended, must } from "./run.ts";
import type { ChosenMode } from "./types.ts";

/**
 * Pods as network namespaces. Runs inside the lab's own namespaces: its network is the one between clusters, a bridge
 * named `wan`. A namespace has no name and no file; it is held by a process, and goes when that process does.
 */
export async function startNamespaces(chosen: ChosenMode, folder: string): Promise<LabNetwork> {
  await shell("network between clusters", "ip link set lo up; ip link add wan type bridge; ip link set wan up");
  return { chosen, addCluster: (index, name) => addCluster(chosen, folder, index, name) };
}

async function addCluster(chosen: ChosenMode, folder: string, index: number, name: string): Promise<ClusterNetwork> {
  const plan = addressPlan(index);
  const router = await hold(`router-${name}`, []);
  const enter = ["nsenter", "-t", String(router.pid), "-n"];
  await shell(
    `router of ${name}`,
    `ip link add r${index} type veth peer name wan0 netns ${router.pid}
     ip link set r${index} master wan up
     ${enter.join(" ")} sh -e <<'END'
ip link set lo up
ip link add br0 address ${macOf(plan.router)} type bridge
ip addr add ${plan.router}/16 dev br0
ip link set br0 up
ip route add ${serviceCidr} dev br0
ip addr add ${plan.node}/16 dev wan0
ip link set wan0 up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
END`,
  );
  const setRules = (rules: string) =>
    must(`rules of the router of ${name}`, [...enter, "iptables-restore"], { input: rules });
  await setRules(routerRules({ podCidr, serviceCidr, nodePorts: [], services: [] }));
  let pods = 0;
  return {
    routerIp: plan.router,
    atRouter: (argv) => [...enter, ...argv],
    setForwards: async (forwards) => {
      await setRules(routerRules({ podCidr, serviceCidr, ...forwards }));
    },
    addPod: (options) =>
      addPod({ chosen, folder, index, enterRouter: enter, number: ++pods, routerIp: plan.router }, options),
  };
}

interface PodPlace {
  readonly chosen: ChosenMode;
  readonly folder: string;
  readonly index: number;
  readonly number: number;
  readonly enterRouter: readonly string[];
  readonly routerIp: string;
}

async function addPod(place: PodPlace, options: PodNetworkOptions): Promise<PodNetwork> {
  const { chosen, index, number, enterRouter, routerIp } = place;
  const holder = await hold(options.name, podMounts(options, chosen));
  const enter = ["nsenter", "-t", String(holder.pid), "-n", "-m", "-u"];
  const wan =
    options.wanIp === undefined
      ? ""
      : `ip link add w${index}n${number} type veth peer name wan0 address ${macOf(options.wanIp)} netns ${holder.pid}
         ip link set w${index}n${number} master wan up`;
  try {
    await shell(
      `network of pod ${options.name}`,
      `${enterRouter.join(" ")} ip link add p${number} type veth peer name eth0 address ${macOf(options.ip)} netns ${holder.pid}
       ${enterRouter.join(" ")} ip link set p${number} master br0 up
       ${wan}
       nsenter -t ${holder.pid} -n sh -e <<'END'
ip link set lo up
ip addr add ${options.ip}/16 dev eth0
ip link set eth0 up
ip route add default via ${routerIp}
${options.wanIp === undefined ? "" : `ip addr add ${options.wanIp}/16 dev wan0; ip link set wan0 up`}
echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
END`,
    );
  } catch (caught) {
    holder.child.kill("SIGKILL");
    throw caught;
  }
  // In a user namespace there is only one user, so the proxy cannot be another one.
  const asProxy =
    chosen.mode === "netns"
      ? ["setpriv", "--reuid", String(proxyUid), "--regid", String(proxyUid), "--clear-groups"]
      : [];
  return {
    ip: options.ip,
    wanIp: options.wanIp,
    holder: holder.pid,
    enter: (argv, runAs, env) => ({ argv: [...enter, ...(runAs === "proxy" ? asProxy : []), ...argv], env }),
    listens: async (port) => listeningPorts(holder.pid).has(port),
    capture: async () => {
      await must(`capture rules of pod ${options.name}`, [...enter, "iptables-restore"], {
        input: captureRules(captureFor(chosen, options)),
      });
    },
    setOuterPorts: async (ports) => {
      if (options.wanIp === undefined) return;
      await must(`outside ports of pod ${options.name}`, [...enter, "iptables-restore"], { input: outerRules(ports) });
    },
    close: async () => {
      // The kernel removes the pair of interfaces with the namespace; the bridge's side goes with its peer.
      holder.child.kill("SIGKILL");
      await ended(holder.child);
    },
  };
}

/**
 * The hardware address that belongs to an address: whoever remembers it for a pod that has gone finds the next one that
 * gets its address. A bridge without one of its own takes the lowest of its ports', and another when that pod goes; until
 * they ask anew, its pods then send what leaves the cluster to nobody. The second bit says that nobody sold it (IEEE 802c).
 */
function macOf(ip: string): string {
  return ["02", "00", ...ip.split(".").map((part) => Number(part).toString(16).padStart(2, "0"))].join(":");
}

function captureFor(chosen: ChosenMode, options: PodNetworkOptions): CaptureOptions {
  return {
    family: 4,
    outbound:
      chosen.mode === "netns"
        ? { by: "owner", cidrs: "all", excludePorts: options.excludeOutboundPorts }
        : { by: "ranges", cidrs: [virtualCidr, serviceCidr], excludeCidrs: [systemCidr] },
    inbound: { ports: "all", exclude: options.excludeInboundPorts },
    dns: "all",
  };
}

/** What the pod sees in place of the machine's files: pairs of our file and the one that it covers. */
function podMounts(options: PodNetworkOptions, chosen: ChosenMode): readonly (readonly [string, string])[] {
  mkdirSync(options.folder, { recursive: true });
  // With a proxy in a user namespace, questions go to loopback, where the rules can tell them from the proxy's own.
  const nameserver = chosen.mode === "userns" && options.injected ? "127.0.0.1" : options.nameserver;
  const search = searchDomains(options.namespace).join(" ");
  const files: readonly (readonly [string, string])[] = [
    ["/etc/resolv.conf", `nameserver ${nameserver}\nsearch ${search}\noptions ndots:5\n`],
    ["/etc/hosts", `127.0.0.1 localhost\n::1 localhost ip6-localhost\n${options.ip} ${options.name}\n`],
    ["/etc/hostname", `${options.name}\n`],
    ["/etc/nsswitch.conf", nameServiceSwitch()],
  ];
  return files
    .filter(([target]) => existsSync(target))
    .map(([target, text]) => {
      const file = join(options.folder, target.split("/").at(-1)!);
      writeFileSync(file, text);
      return [file, target] as const;
    });
}

/** The machine's own, but names come from files and DNS alone: a resolver daemon outside would go around the mesh. */
function nameServiceSwitch(): string {
  const file = "/etc/nsswitch.conf";
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  return `${text.replace(/^hosts:.*$/m, "")}\nhosts: files dns\n`;
}

interface Holder {
  readonly pid: number;
  readonly child: ChildProcess;
}

/** A process that does nothing but hold fresh namespaces, with these files mounted. */
async function hold(hostname: string, mounts: readonly (readonly [string, string])[]): Promise<Holder> {
  const script = [
    `hostname ${quote(hostname)} 2>/dev/null || echo ${quote(hostname)} > /proc/sys/kernel/hostname`,
    ...mounts.map(([file, target]) => `mount --bind ${quote(file)} ${quote(target)}`),
    // A daemon that remembers names for the whole machine is out of sight here.
    "[ ! -d /run/nscd ] || mount -t tmpfs -o size=4k none /run/nscd",
    "echo held",
    "exec sleep 2147483647",
  ];
  const unshare = ["--net", "--mount", "--uts", "sh", "-ec", script.join("\n")];
  const child = spawn("unshare", unshare, { stdio: ["ignore", "pipe", "pipe"] });
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(-2000);
  });
  await new Promise<void>((resolve, reject) => {
    const fail = (why: string) =>
      reject(new Failure("lab/namespace", `no namespace for "${hostname}": ${why}; ${complaint.trim()}`));
    child.stdout.once("data", () => resolve());
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code) => fail(`ended with ${code}`));
  });
  return { pid: child.pid!, child };
}

/** TCP ports with a listener in the network of a process. State 0A is LISTEN, the address is in hexadecimal. */
function listeningPorts(pid: number): ReadonlySet<number> {
  const ports = new Set<number>();
  for (const table of ["tcp", "tcp6"]) {
    let text: string;
    try {
      text = readFileSync(`/proc/${pid}/net/${table}`, "utf8");
    } catch {
      continue; // The pod is gone, or the kernel has no IPv6.
    }
    for (const line of text.split("\n").slice(1)) {
      const [, local, , state] = line.trim().split(/\s+/);
      if (state === "0A" && local) ports.add(Number.parseInt(local.split(":")[1]!, 16));
    }
  }
  return ports;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function shell(what: string, script: string): Promise<string> {
  return must(what, ["sh", "-ec", script]);
}
