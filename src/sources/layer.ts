import { type Reading, type Resource, resourceKey, type Violation } from "../resources/index.ts";
import { same } from "./same.ts";
import type { UnitUpdate } from "./source.ts";

/** What a layer says of one key: the object that holds, and what else lays claim to it. */
interface Claim {
  readonly unit: string;
  readonly resource: Resource;
  /** From an earlier reading: the unit still names it but is wrong now. Gives way to any claim that is not kept. */
  readonly kept: boolean;
}

interface Unit {
  readonly claims: ReadonlyMap<string, Claim>;
  readonly violations: readonly Violation[];
}

const emptyUnit: Unit = { claims: new Map(), violations: [] };

export function keyOf(resource: Resource): string {
  return resourceKey({ ...resource.metadata, kind: resource.kind, cluster: resource.origin.cluster });
}

/** The units of one source and who of them holds which object. Remembers; decides nothing about other sources. */
export class LayerUnits {
  readonly #units = new Map<string, Unit>();
  readonly #claimsByKey = new Map<string, Map<string, Claim>>();
  /** Units of which something is wrong, and keys that several units claim: few, whatever there is in all. */
  readonly #wrong = new Set<string>();
  readonly #shared = new Set<string>();

  /** Takes in updates and gives the keys that may hold something else now. */
  apply(updates: readonly UnitUpdate[]): ReadonlySet<string> {
    const touched = new Set<string>();
    for (const { unit, reading } of updates) {
      const before = this.#units.get(unit) ?? emptyUnit;
      const after = reading ? nextUnit(unit, reading, before) : emptyUnit;
      if (reading) this.#units.set(unit, after);
      else this.#units.delete(unit);
      if (after.violations.length > 0) this.#wrong.add(unit);
      else this.#wrong.delete(unit);
      for (const key of new Set([...before.claims.keys(), ...after.claims.keys()])) {
        const claim = after.claims.get(key);
        if (claim === before.claims.get(key)) continue;
        touched.add(key);
        this.#claim(key, unit, claim);
      }
    }
    return touched;
  }

  #claim(key: string, unit: string, claim: Claim | undefined): void {
    const claims = this.#claimsByKey.get(key) ?? new Map<string, Claim>();
    if (claim) claims.set(unit, claim);
    else claims.delete(unit);
    if (claims.size > 0) this.#claimsByKey.set(key, claims);
    else this.#claimsByKey.delete(key);
    if (claims.size > 1) this.#shared.add(key);
    else this.#shared.delete(key);
  }

  keys(): Iterable<string> {
    return this.#claimsByKey.keys();
  }

  /** The object that holds for a key: fresh before kept, then by the name of the unit, so that a restart agrees. */
  holder(key: string): Resource | undefined {
    return this.#ranked(key)[0]?.resource;
  }

  #ranked(key: string): readonly Claim[] {
    const claims = [...(this.#claimsByKey.get(key)?.values() ?? [])];
    if (claims.length < 2) return claims;
    return claims.sort((a, b) => Number(a.kept) - Number(b.kept) || (a.unit < b.unit ? -1 : 1));
  }

  /** All that is wrong in this layer, in the order of units, then of keys. */
  violations(): readonly Violation[] {
    const all: Violation[] = [];
    for (const unit of [...this.#wrong].sort()) all.push(...this.#units.get(unit)!.violations);
    for (const key of [...this.#shared].sort()) {
      const [first, ...others] = this.#ranked(key);
      // A kept object whose unit is wrong has been moved: the unit's own violations say what there is to say.
      for (const other of others) if (!other.kept) all.push(duplicate(first!.resource, other.resource));
    }
    return all;
  }
}

function nextUnit(unit: string, reading: Reading, before: Unit): Unit {
  const claims = new Map<string, Claim>();
  const violations = [...reading.violations];
  for (const resource of reading.resources) {
    const key = keyOf(resource);
    const first = claims.get(key);
    if (first) {
      violations.push(duplicate(first.resource, resource));
      continue;
    }
    // Who compiles this remembers by identity, so what says the same stays the same object.
    const known = before.claims.get(key);
    const unchanged = known !== undefined && same(known.resource, resource);
    claims.set(
      key,
      unchanged && !known.kept ? known : { unit, resource: unchanged ? known.resource : resource, kept: false },
    );
  }
  for (const [key, known] of before.claims) {
    if (claims.has(key) || (reading.complete && !reading.wrong.includes(key))) continue;
    claims.set(key, known.kept ? known : { ...known, kept: true });
  }
  return { claims, violations };
}

function duplicate(first: Resource, second: Resource): Violation {
  const { file, line = 1 } = second.origin;
  const at = first.origin.file === undefined ? "elsewhere" : `at ${first.origin.file}:${first.origin.line ?? 1}`;
  const { kind, metadata } = second;
  const name = metadata.namespace === "" ? metadata.name : `${metadata.namespace}/${metadata.name}`;
  return {
    ...(file === undefined ? {} : { file }),
    line,
    column: 1,
    path: "metadata.name",
    message: `${kind} ${name} stands ${at} already, and that one is used; remove or rename one of the two`,
    code: "ISM0901",
    severity: "error",
  };
}
