/** One reader of strangers' bytes. It may say no in its own words; anything else that it throws is a finding. */
export interface Target {
  readonly name: string;
  readonly seeds: readonly Buffer[];
  /** Throws when the reader breaks a promise. */
  run(bytes: Buffer): void | Promise<void>;
  /** The longest that one input may take, in milliseconds. */
  readonly slowMs?: number;
}

export interface Finding {
  readonly input: Buffer;
  readonly why: string;
}

export interface Outcome {
  readonly runs: number;
  readonly slowestMs: number;
  readonly findings: readonly Finding[];
}

/** A small generator of numbers (mulberry32), so that a run can be had again by its seed. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const boundaries = [0, 1, 0x0a, 0x0d, 0x20, 0x22, 0x2e, 0x3a, 0x7f, 0x80, 0xc0, 0xfe, 0xff];

/** A seed with a few bytes changed, cut out, put in, repeated, or crossed with another seed. */
export function mutate(seeds: readonly Buffer[], random: () => number): Buffer {
  const pick = (below: number) => Math.floor(random() * below);
  let bytes = Buffer.from(seeds[pick(seeds.length)]!);
  const edits = 1 + pick(8);
  for (let i = 0; i < edits; i++) {
    const at = pick(bytes.length + 1);
    const count = 1 + pick(random() < 0.1 ? 4096 : 8);
    switch (pick(8)) {
      case 0:
        if (at < bytes.length) bytes[at] = pick(256);
        break;
      case 1:
        if (at < bytes.length) bytes[at] = boundaries[pick(boundaries.length)]!;
        break;
      case 2:
        if (at < bytes.length) bytes[at] = bytes[at]! ^ (1 << pick(8));
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + count)]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.alloc(count, pick(256)), bytes.subarray(at)]);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.max(0, at - count))]);
        break;
      case 6: {
        const other = seeds[pick(seeds.length)]!;
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(pick(other.length + 1))]);
        break;
      }
      default:
        bytes = Buffer.from(bytes.subarray(0, at));
    }
  }
  return bytes.length > 256 * 1024 ? bytes.subarray(0, 256 * 1024) : bytes;
}

/** Feeds a target its seeds, every prefix of the short ones, and mutations until the time is over. */
export async function fuzz(
  target: Target,
  options: { readonly seed: number; readonly forMs: number; readonly now: () => number; readonly most?: number },
): Promise<Outcome> {
  const { now, most = 10 } = options;
  const random = randomOf(options.seed);
  const findings: Finding[] = [];
  const slowMs = target.slowMs ?? 2000;
  let runs = 0;
  let slowestMs = 0;
  const once = async (input: Buffer) => {
    runs++;
    const began = now();
    try {
      // The reader gets bytes of its own: what it keeps must not change what is reported.
      const going = target.run(Buffer.from(input));
      if (going instanceof Promise) await going;
    } catch (caught) {
      findings.push({ input, why: caught instanceof Error ? (caught.stack ?? caught.message) : String(caught) });
    }
    const tookMs = now() - began;
    slowestMs = Math.max(slowestMs, tookMs);
    if (tookMs > slowMs) findings.push({ input, why: `took ${Math.round(tookMs)} ms, more than ${slowMs}` });
  };
  const until = now() + options.forMs;
  const over = () => now() > until || findings.length >= most;
  for (const seed of target.seeds) await once(seed);
  for (const seed of target.seeds)
    for (let length = 0; length < Math.min(seed.length, 2000) && !over(); length++)
      await once(seed.subarray(0, length));
  while (!over()) await once(mutate(target.seeds, random));
  return { runs, slowestMs, findings };
}
