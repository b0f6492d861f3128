import { readdirSync, readFileSync } from "node:fs";
import { processes } from "../e2e/belongings.ts";

/** One process of the mesh at one moment. */
export interface Sample {
  readonly at: number;
  readonly pid: number;
  /** `cluster2 echo-v1-abc: proxy`: which it is. */
  readonly role: string;
  readonly rssMb: number;
  readonly descriptors: number;
}

/** All proxies, agents, Envoys and control planes of a lab. */
export function sample(folder: string, at: number): readonly Sample[] {
  return processes().flatMap(({ pid, command }) => {
    const role = command.includes(folder) ? roleOf(command) : undefined;
    if (role === undefined) return [];
    try {
      const rss = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
      // A process that ended and is not yet taken note of has none.
      if (rss === undefined) return [];
      const descriptors = readdirSync(`/proc/${pid}/fd`).length;
      return [{ at, pid, role, rssMb: Number(rss) / 1024, descriptors }];
    } catch {
      return []; // It ended while we looked.
    }
  });
}

function roleOf(command: string): string | undefined {
  const words = command.split("\0");
  const after = (option: string) => words[words.indexOf(option) + 1];
  if (words[1]?.endsWith("/cli/main.js")) {
    if (words[2] === "controlplane") return `control plane of ${after("--cluster")}`;
    if (words[2] === "proxy" || words[2] === "agent") return `${words[2]} of ${after("--cluster")} ${after("--pod")}`;
  }
  const bootstrap = /^[^\0]*\/envoy\0-c\0[^\0]*\/(\d+-\d+)\/run\//.exec(command);
  return bootstrap ? `envoy of pod ${bootstrap[1]}` : undefined;
}

/** Younger than this a process still grows into its work. */
const growsUpMs = 20_000;
/** With fewer looks than this in each half nothing can be said. */
const fewest = 4;
const mayGrow = { factor: 1.25, mb: 32 };

/** Processes whose least memory in the second half of their life is more than in the first, by more than chance. */
export function growing(samples: readonly Sample[]): readonly string[] {
  const byPid = new Map<string, Sample[]>();
  for (const one of samples) {
    const key = `${one.pid} ${one.role}`;
    byPid.set(key, [...(byPid.get(key) ?? []), one]);
  }
  return [...byPid.values()].flatMap((all) => {
    const grown = all.filter(({ at }) => at - all[0]!.at >= growsUpMs);
    const half = Math.floor(grown.length / 2);
    if (half < fewest) return [];
    const least = (some: readonly Sample[]) => Math.min(...some.map(({ rssMb }) => rssMb));
    const [first, second] = [least(grown.slice(0, half)), least(grown.slice(half))];
    if (second <= first * mayGrow.factor + mayGrow.mb) return [];
    return [`${all[0]!.role}: from ${first.toFixed(0)} MB to ${second.toFixed(0)} MB`];
  });
}

const mayHold = 64;

/** Processes that hold more descriptors now, at rest, than the most that one of their kind held at rest before. */
export function holding(before: readonly Sample[], now: readonly Sample[]): readonly string[] {
  const kind = ({ role }: Sample) => role.split(" ")[0]!;
  return now.flatMap((one) => {
    const most = Math.max(0, ...before.filter((other) => kind(other) === kind(one)).map((other) => other.descriptors));
    return one.descriptors > most + mayHold ? [`${one.role}: ${one.descriptors} descriptors, ${most} before`] : [];
  });
}
