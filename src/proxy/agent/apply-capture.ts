import { connect, createServer, type Server } from "node:net";
import { type Clock, Failure } from "../../base/index.ts";
import { cidrContains, type Ip, ipFamily, parseCidr, parseIp } from "../../values/index.ts";
import { type CaptureOptions, captureUpdate, countRules } from "./capture.ts";
import { findIptables, type Iptables } from "./iptables.ts";

export interface Applied {
  readonly command: string;
  /** How many rules stand in our chains, and lead to them. */
  readonly rules: number;
  /** `connection`: one was made and came out at the proxy's port. Else why none could be made. */
  readonly proof: "connection" | { readonly none: string };
}

/**
 * Writes the rules into this network namespace, beside whatever others wrote, and proves that they work: what stands there
 * is read back, and a connection is made. Written twice, they are the same. Throws `capture/…`.
 */
export async function applyCapture(options: CaptureOptions, deps: { readonly clock: Clock }): Promise<Applied> {
  const iptables = await findIptables(options.family);
  const update = captureUpdate(options, await iptables.save());
  await iptables.restore(update);
  const rules = await readBack(iptables, update);
  return { command: iptables.command, rules, proof: await proveOutbound(options, deps) };
}

async function readBack(iptables: Iptables, written: string): Promise<number> {
  const [wanted, found] = [countRules(written), countRules(await iptables.save())];
  for (const [chain, count] of wanted) {
    if (found.get(chain) === count) continue;
    throw new Failure(
      "capture/not-kept",
      `chain ${chain} has ${found.get(chain) ?? 0} of our rules, and ${count} were written`,
      {
        hint: "does another program in the pod change the packet filter at the same time?",
      },
    );
  }
  return [...wanted.values()].reduce((sum, count) => sum + count, 0);
}

/** Nobody's (RFC 5737, RFC 3849): a connection to it can only be answered by who stands in its place. */
const nobodys = { 4: ["192.0.2.1", "198.51.100.1", "203.0.113.1"], 6: ["2001:db8::1"] } as const;
const proofPort = 15002;
const proofMs = 5_000;

/** As any program but the proxy would, connects to where nobody is, and looks whether it comes out where the proxy will listen. */
async function proveOutbound(options: CaptureOptions, { clock }: { readonly clock: Clock }): Promise<Applied["proof"]> {
  const { outbound, family } = options;
  const target = proofTarget(options);
  if (target === undefined) return { none: "nothing that could be connected to is captured" };
  if (
    outbound.by === "owner" &&
    (process.getuid?.() === (outbound.uid ?? 1337) || process.getgid?.() === (outbound.gid ?? 1337))
  )
    return { none: "this runs as the proxy's user, whose connections are not captured" };
  const server = createServer((socket) => socket.end("isthmus"));
  try {
    await listening(server, family === 4 ? "127.0.0.1" : "::1");
  } catch (caught) {
    // The proxy of before the restart may be there still.
    return { none: `port 15001 is taken: ${(caught as Error).message}` };
  }
  try {
    const answer = await answerOf(target, clock);
    if (answer === "isthmus") return "connection";
    if (answer === "no-route") return { none: `there is no route to ${target}, so nothing could be sent that way` };
    throw new Failure(
      "capture/not-working",
      `a connection to ${target}:${proofPort} did not come out at port 15001: ${answer}`,
      {
        hint: "the rules stand there and the kernel does not go by them; is the node's kernel one without NAT in pods' network namespaces?",
      },
    );
  } finally {
    server.close();
  }
}

/** An address that is nobody's and is captured; undefined when there is none. */
export function proofTarget({ outbound, family }: CaptureOptions): Ip | undefined {
  const ranges = (outbound.cidrs === "all" ? [] : outbound.cidrs).flatMap((text) => parseCidr(text) ?? []);
  const excluded = (outbound.excludeCidrs ?? []).flatMap((text) => parseCidr(text) ?? []);
  if (outbound.by === "owner" && outbound.excludePorts?.includes(proofPort)) return undefined;
  const candidates =
    outbound.cidrs === "all"
      ? nobodys[family].flatMap((text) => parseIp(text) ?? [])
      : ranges.filter(({ ip }) => ipFamily(ip) === family).map(({ ip }) => ip);
  const usable = (ip: Ip) =>
    !excluded.some((cidr) => cidrContains(cidr, ip)) && !ip.startsWith("127.") && !/^(0\.0\.0\.0|::)$/.test(ip);
  return candidates.find(usable);
}

function listening(server: Server, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(15001, host, resolve);
  });
}

/** What is heard there: `isthmus`, `no-route`, or what went wrong. */
function answerOf(host: Ip, clock: Clock): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port: proofPort });
    let heard = "";
    const done = (answer: string) => {
      timer.cancel();
      socket.destroy();
      resolve(answer);
    };
    const timer = clock.after(proofMs, () => done(`nothing within ${proofMs} ms`));
    socket.setEncoding("utf8").on("data", (part: string) => {
      heard += part;
    });
    socket.on("end", () => done(heard === "isthmus" ? heard : "somebody else answered"));
    socket.on("error", (error: NodeJS.ErrnoException) =>
      done(error.code === "ENETUNREACH" || error.code === "EHOSTUNREACH" ? "no-route" : error.message),
    );
  });
}
