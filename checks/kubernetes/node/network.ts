import { type ChildProcess, spawn } from "node:child_process";
import type { Scope } from "../../../src/base/index.ts";
import { unshareLine } from "../../../src/lab/enclosure.ts";
import { childOf } from "../../../src/lab/process-tree.ts";
import { ended } from "../../../src/lab/run.ts";
import { apiServerIp, apiServerPort, outsideAddresses, outsideIp, routerIp, serviceCidr } from "./addresses.ts";
import { serviceRules } from "./service-rules.ts";

/** Where the programs of one cluster run. */
export interface ClusterPlace {
  readonly name: string;
  /** Counted from 1; outside addresses begin with 172.30.<index>. */
  readonly index: number;
  /** The API server as kubectl, other clusters and the node reach it: `https://172.30.<index>.1:6443`. */
  readonly server: string;
  /**
   * In front of a command of etcd, the API server or a controller manager: it runs at 10.244.0.2, on the pods' network,
   * from which it reaches pods by their addresses and the kubelet at 172.30.<index>.1:10250. It ends with the one that
   * started it.
   */
  atNode(argv: readonly string[]): readonly string[];
  atRouter(argv: readonly string[]): readonly string[];
  /** Processes, numbered inside the enclosure, whose network is the router's and the node's. */
  readonly holders: { readonly router: number; readonly node: number };
}

export interface TestNetwork {
  readonly clusters: readonly ClusterPlace[];
  /**
   * In front of a command that tests run (kubectl, isthmus, a script): it runs at 172.30.0.254, between the clusters, in
   * `cwd` (this process's unless named), and ends with the one that started it.
   */
  enter(argv: readonly string[], cwd?: string): readonly string[];
}

/**
 * The clusters' networks in an enclosure of their own. Files are the machine's, but for what is mounted in it. All of it,
 * with every process in it, goes with the scope, and with this process.
 */
export async function startTestNetwork(
  { clusters }: { readonly clusters: readonly string[] },
  scope: Scope,
): Promise<TestNetwork> {
  const [program, ...args] = unshareLine("netns");
  const script = [outsideScript, ...clusters.map((name, position) => clusterScript(name, position + 1)), heldScript];
  const child = spawn(program!, [...args, "sh", "-ec", script.join("\n")], {
    stdio: ["ignore", "pipe", "pipe"],
    cwd: "/",
  });
  scope.defer(async () => {
    child.kill("SIGKILL");
    await ended(child);
  });
  const pids = await heldPids(child);
  const outer = pids.shift()!;
  const into = ["nsenter", "-t", String(outer), "-n", "-m", "-p"];
  // The one that entered waits outside for what it started; without this a killed one would leave it behind.
  const tied = ["setpriv", "--pdeathsig", "KILL"];
  const enter = (argv: readonly string[], cwd = process.cwd()) => [...into, ...tied, "env", `--chdir=${cwd}`, ...argv];
  return {
    enter,
    clusters: clusters.map((name, position) => {
      const [router, node] = [pids[position * 2]!, pids[position * 2 + 1]!];
      const at = (pid: number, argv: readonly string[]) => enter(["nsenter", "-t", String(pid), "-n", "-u", ...argv]);
      return {
        name,
        index: position + 1,
        server: `https://${outsideAddresses(position + 1).node}:${apiServerPort}`,
        atNode: (argv) => at(node, argv),
        atRouter: (argv) => at(router, argv),
        holders: { router, node },
      };
    }),
  };
}

/** The network between clusters, with the place of those who look on. */
const outsideScript = `
ip link set lo up
ip link add wan type bridge
ip addr add ${outsideIp}/16 dev wan
ip link set wan up
mount -t tmpfs none /mnt
hold() {
  unshare --net --uts sh -ec 'hostname "$1"; echo > "/mnt/held-$1"; exec sleep 2147483647' sh "$1" &
  held=$!
  while [ ! -e "/mnt/held-$1" ]; do sleep 0.02; done
}`;

/**
 * One cluster. Whoever is on the pods' bridge has an address and a way to the router, no neighbours: all that goes from pod
 * to pod passes the router, so that what it rewrites it also rewrites on the way back, and callers keep their addresses.
 */
function clusterScript(name: string, index: number): string {
  const rules = serviceRules({ index, services: [] });
  return `
hold router-${name}; router=$held
hold ${name}-node; node=$held
ip link add r${index} type veth peer name wan0 netns $router
ip link set r${index} master wan up
nsenter -t $router -n sh -e <<'END'
ip link set lo up
ip link add br0 address 02:00:0a:f4:00:01 type bridge
for name in all default br0; do
  echo 0 > /proc/sys/net/ipv4/conf/$name/send_redirects
  echo 0 > /proc/sys/net/ipv4/conf/$name/rp_filter
done
ip addr add ${routerIp}/16 dev br0
ip link set br0 up
ip route add ${serviceCidr} dev br0
ip addr add ${outsideAddresses(index).node}/16 dev wan0
ip link set wan0 up
echo 1 > /proc/sys/net/ipv4/ip_forward
# Who keeps asking from one UDP port is soon sent to those who answer now, not to a pod that has gone.
for name in udp_timeout udp_timeout_stream; do echo 2 > /proc/sys/net/netfilter/nf_conntrack_$name; done
iptables-restore <<'RULES'
${rules}RULES
END
nsenter -t $router -n ip link add n0 type veth peer name eth0 address 02:00:0a:f4:00:02 netns $node
nsenter -t $router -n ip link set n0 master br0 up
nsenter -t $router -n ip link set n0 type bridge_slave hairpin on
nsenter -t $node -n sh -e <<'END'
ip link set lo up
ip addr add ${apiServerIp}/32 dev eth0
ip link set eth0 up
ip route add ${routerIp} dev eth0
ip route add default via ${routerIp}
END
pids="$pids $router $node"`;
}

/** Says who holds what, and takes in processes whose parents are gone for as long as it lasts. */
const heldScript = `
echo "held$pids"
sleep 2147483647 &
wait $!`;

/** The number of the first process inside the enclosure as this process sees it, then those inside as it says them. */
async function heldPids(child: ChildProcess): Promise<number[]> {
  let said = "";
  let complaint = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(-2000);
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (said.includes("held") && said.endsWith("\n")) resolve();
    });
    child.once("error", reject);
    child.once("exit", (code) =>
      reject(new Error(`no network for the clusters: ended with ${code}; ${complaint.trim()}`)),
    );
  });

  const first = childOf(child.pid!);
  if (first === undefined) throw new Error("the enclosure ended while it was made");
  return [first, ...(/held((?: \d+)*)/.exec(said)?.[1] ?? "").trim().split(" ").map(Number)];
}
