import type { Balancing } from "../config/balancing.ts";
import type { Endpoint } from "./upstream.ts";

/** Endpoints of one place at one priority. */
export interface LocalityGroup {
  readonly weight: number | undefined;
  readonly endpoints: readonly Endpoint[];
}

/** Endpoints of one priority; the first level is the first choice. */
export interface Level {
  readonly groups: readonly LocalityGroup[];
}

/** What a choice depends on. All of it is handed in: the same facts and the same chance give the same endpoint. */
export interface BalancerFacts {
  readonly balancing: Balancing;
  readonly weighLocalities: boolean;
  /** Percent. */
  readonly panicThreshold: number;
  /** Percent. */
  readonly overprovisioning: number;
  readonly healthy: (endpoint: Endpoint) => boolean;
  /** Requests or connections that run on it. */
  readonly active: (endpoint: Endpoint) => number;
  /** How far an endpoint has warmed up: its share of its weight, above 0 and at most 1. */
  readonly warmth: (endpoint: Endpoint) => number;
  readonly random: () => number;
}

/** Chooses among endpoints. Made anew when the set or its health changes; keeps only whose turn it is. */
export interface Balancer {
  /** Undefined when there is no endpoint at all, or none that is healthy and health counts. */
  pick(options: {
    readonly hash?: number | undefined;
    readonly avoid?: ReadonlySet<string> | undefined;
    /** Levels that are passed over as long as another has something. */
    readonly avoidLevels?: ReadonlySet<number> | undefined;
  }): Endpoint | undefined;
}

/**
 * Share of the traffic in percent for each level: each takes what its healthy part, multiplied by the overprovisioning
 * factor, can carry, and what is left falls to the next. When all together cannot carry everything the shares are
 * scaled up to it.
 */
export function levelShares(healthyFractions: readonly number[], overprovisioning: number): readonly number[] {
  const capacities = healthyFractions.map((fraction) => Math.min(100, fraction * overprovisioning));
  const total = Math.min(
    100,
    capacities.reduce((sum, capacity) => sum + capacity, 0),
  );
  if (total === 0) return healthyFractions.map((_, index) => (index === 0 ? 100 : 0));
  let left = 100;
  return capacities.map((capacity) => {
    const share = Math.min(left, (capacity * 100) / total);
    left -= share;
    return share;
  });
}

export function buildBalancer(levels: readonly Level[], facts: BalancerFacts): Balancer {
  const fractions = levels.map(({ groups }) =>
    healthyFraction(
      groups.flatMap(({ endpoints }) => endpoints),
      facts,
    ),
  );
  const shares = levelShares(fractions, facts.overprovisioning);
  const total = fractions.reduce((sum, fraction) => sum + Math.min(1, (fraction * facts.overprovisioning) / 100), 0);
  const pickers = levels.map(({ groups }, index) => {
    // Too few healthy ones would be crushed by the load of all: then health is ignored.
    const panic = total < 1 && fractions[index]! * 100 < facts.panicThreshold;
    return levelPicker(groups, { ...facts, healthy: panic ? () => true : facts.healthy });
  });
  const sharesWithout = (avoided: ReadonlySet<number> | undefined) => {
    if (!avoided || avoided.size === 0) return shares;
    const left = fractions.map((fraction, level) => (avoided.has(level) ? 0 : fraction));
    return left.some((fraction) => fraction > 0) ? levelShares(left, facts.overprovisioning) : shares;
  };
  return {
    pick(options) {
      const index = choosePosition(sharesWithout(options.avoidLevels), facts.random);
      const first = index === undefined ? undefined : pickers[index]!(options);
      if (first && !options.avoid?.has(first.key)) return first;
      // Everything of this level was tried or is away: any other level that has something is better than nothing.
      for (const pick of pickers) {
        const other = pick(options);
        if (other && !options.avoid?.has(other.key)) return other;
      }
      return first;
    },
  };
}

function healthyFraction(endpoints: readonly Endpoint[], facts: BalancerFacts): number {
  return endpoints.length === 0 ? 0 : endpoints.filter(facts.healthy).length / endpoints.length;
}

/** An index, by the weights given; undefined when they are all 0. */
function choosePosition(weights: readonly number[], random: () => number): number | undefined {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (total === 0) return undefined;
  let point = random() * total;
  for (const [index, weight] of weights.entries()) {
    if (point < weight) return index;
    point -= weight;
  }
  return weights.findLastIndex((weight) => weight > 0);
}

type Picker = Balancer["pick"];

function levelPicker(groups: readonly LocalityGroup[], facts: BalancerFacts): Picker {
  if (!facts.weighLocalities)
    return setPicker(
      groups.flatMap(({ endpoints }) => endpoints),
      facts,
    );
  const pickers = groups.map(({ endpoints }) => setPicker(endpoints, facts));
  // A place that lost endpoints gives up traffic in proportion, as soon as overprovisioning no longer covers it.
  const weights = groups.map(
    ({ weight, endpoints }) =>
      (weight ?? 0) * Math.min(1, (healthyFraction(endpoints, facts) * facts.overprovisioning) / 100),
  );
  return (options) => {
    const index = choosePosition(weights, facts.random);
    return index === undefined ? undefined : pickers[index]!(options);
  };
}

function setPicker(all: readonly Endpoint[], facts: BalancerFacts): Picker {
  const healthy = all.filter(facts.healthy);
  if (healthy.length === 0) return () => undefined;
  const pickFrom = pickerOf(healthy, facts);
  return (options) => {
    const first = pickFrom(healthy, options.hash);
    if (!options.avoid?.has(first.key)) return first;
    const left = healthy.filter(({ key }) => !options.avoid!.has(key));
    return left.length === 0 ? first : left[Math.floor(facts.random() * left.length)]!;
  };
}

type Chooser = (endpoints: readonly Endpoint[], hash: number | undefined) => Endpoint;

function pickerOf(endpoints: readonly Endpoint[], facts: BalancerFacts): Chooser {
  const even = endpoints.every(({ weight }) => weight === endpoints[0]!.weight);
  const { balancing, random } = facts;
  const atRandom: Chooser = even
    ? (list) => list[Math.floor(random() * list.length)]!
    : (list) =>
        list[
          choosePosition(
            list.map(({ weight }) => weight),
            random,
          )!
        ]!;
  switch (balancing.kind) {
    case "random":
      return atRandom;
    case "round-robin":
      return warming(
        balancing,
        facts,
        even ? inTurn(Math.floor(random() * endpoints.length)) : inWeightedTurn(endpoints),
      );
    case "least-request":
      return warming(balancing, facts, (list, hash) => {
        let best = atRandom(list, hash);
        for (let i = 1; i < balancing.choices; i++) {
          const other = atRandom(list, hash);
          if (facts.active(other) < facts.active(best)) best = other;
        }
        return best;
      });
    case "ring-hash": {
      const ring = buildRing(endpoints, balancing);
      return (list, hash) => (hash === undefined ? atRandom(list, hash) : ringLookup(ring, hash));
    }
  }
}

/** How often a choice that is still cold is put off for another. */
const mostPutOff = 16;

/** Gives an endpoint that warms up its turn only as often as it is warm. */
function warming(
  { slowStart }: { readonly slowStart?: unknown },
  { warmth, random }: Pick<BalancerFacts, "warmth" | "random">,
  choose: Chooser,
): Chooser {
  if (slowStart === undefined) return choose;
  return (list, hash) => {
    let chosen = choose(list, hash);
    for (let i = 0; i < mostPutOff; i++) {
      const warm = warmth(chosen);
      if (warm >= 1 || random() < warm) break;
      chosen = choose(list, hash);
    }
    return chosen;
  };
}

/** Starts at a chance place, so that many proxies that begin together do not all begin with the same endpoint. */
function inTurn(start: number): Chooser {
  let turn = start;
  return (list) => list[turn++ % list.length]!;
}

/** Smooth: with weights 5, 1, 1 the heavy one is not taken five times in a row. */
function inWeightedTurn(endpoints: readonly Endpoint[]): Chooser {
  const credit = endpoints.map(() => 0);
  const total = endpoints.reduce((sum, { weight }) => sum + weight, 0);
  return (list) => {
    let best = 0;
    for (let i = 0; i < list.length; i++) {
      credit[i]! += list[i]!.weight;
      if (credit[i]! > credit[best]!) best = i;
    }
    credit[best]! -= total;
    return list[best]!;
  };
}

interface RingPoint {
  readonly hash: number;
  readonly endpoint: Endpoint;
}

/**
 * Points in proportion to weight, at hashes of `address_number`. How many an endpoint has depends on its own weight, and
 * on the size of the set in coarse steps only: an endpoint that leaves moves its own callers and no others.
 */
function buildRing(
  endpoints: readonly Endpoint[],
  { minSize, maxSize }: { readonly minSize: number; readonly maxSize: number },
): readonly RingPoint[] {
  const lightest = Math.min(...endpoints.map(({ weight }) => weight));
  const total = endpoints.reduce((sum, { weight }) => sum + weight, 0) / lightest;
  const usual = endpoints.length <= 16 ? 1024 : endpoints.length <= 256 ? 256 : 64;
  const each = Math.min(Math.max(usual, 2 ** Math.ceil(Math.log2(minSize / total))), maxSize / total);
  const points = endpoints.flatMap((endpoint) =>
    Array.from({ length: Math.max(1, Math.floor((endpoint.weight / lightest) * each)) }, (_, index) => ({
      hash: hashText(`${endpoint.key}_${index}`),
      endpoint,
    })),
  );
  return points.sort((a, b) => a.hash - b.hash);
}

function ringLookup(ring: readonly RingPoint[], hash: number): Endpoint {
  const wanted = hash >>> 0;
  let low = 0;
  let high = ring.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ring[middle]!.hash < wanted) low = middle + 1;
    else high = middle;
  }
  return ring[low % ring.length]!.endpoint;
}

/** FNV-1a with a final mix, 32 bits: evenly spread, the same in every process. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
