import type { Ip } from "../../values/index.ts";
import { membersOf, removeMember, setMember } from "./json-object.ts";

/** The annotation of the ConfigMap in which we write down how to undo what we did to its `stubDomains`. */
export const undoAnnotation = "isthmus.dev/dns-undo";

export interface Undo {
  /** What stood there before the first of our changes; null: nothing. */
  readonly before: string | null;
  /** What stands there now, if nobody else was here. */
  readonly after: string;
  /** Our domains; with the value that each replaced, or null. */
  readonly domains: Readonly<Record<string, string | null>>;
}

export interface StubDomains {
  /** `data.stubDomains`; undefined when there is none. */
  readonly text: string | undefined;
  readonly undo: Undo | undefined;
}

export interface StubConflict {
  readonly domain: string;
  readonly text: string;
  readonly same: boolean;
}

export type StubEdit =
  | { readonly ok: true; readonly value: StubDomains; readonly conflicts: readonly StubConflict[] }
  | { readonly ok: false; readonly message: string };

/** Hands the domains to these addresses; what else the text says stays as it is written. */
export function setStubDomains(
  now: StubDomains,
  wish: { readonly domains: readonly string[]; readonly ips: readonly Ip[]; readonly replace: boolean },
): StubEdit {
  const start = now.text ?? "{}";
  const problem = problemOf(start);
  if (problem !== undefined) return { ok: false, message: problem };
  const value = JSON.stringify(wish.ips).replaceAll(",", ", ");
  const domains: Record<string, string | null> = { ...now.undo?.domains };
  const conflicts: StubConflict[] = [];
  let text = start;
  for (const domain of wish.domains) {
    const old = memberText(text, domain);
    if (old !== undefined && !(domain in domains)) {
      const same = JSON.stringify(JSON.parse(old).toSorted()) === JSON.stringify(wish.ips.toSorted());
      if (same || !wish.replace) {
        conflicts.push({ domain, text: `"${domain}": ${old}`, same });
        continue;
      }
    }
    if (!(domain in domains)) domains[domain] = old ?? null;
    if (old === undefined || JSON.stringify(JSON.parse(old)) !== JSON.stringify(wish.ips)) {
      text = setMember(text, domain, value);
    }
  }
  if (Object.keys(domains).length === 0) return { ok: true, value: now, conflicts };
  const untouched = now.undo !== undefined && now.text === now.undo.after;
  const before = untouched ? now.undo.before : (takenOut(now).text ?? null);
  return { ok: true, value: { text, undo: { before, after: text, domains } }, conflicts };
}

/** Takes ours out again: all of it unless told. What was there before comes back as it was, if nobody wrote since. */
export function removeStubDomains(now: StubDomains, domains?: readonly string[]): StubEdit {
  const problem = now.text === undefined ? undefined : problemOf(now.text);
  if (problem !== undefined) return { ok: false, message: problem };
  if (!now.undo) return { ok: true, value: now, conflicts: [] };
  const left = Object.entries(now.undo.domains).filter(
    ([domain]) => domains !== undefined && !domains.includes(domain),
  );
  if (left.length === 0) {
    const value = now.text === now.undo.after ? (now.undo.before ?? undefined) : takenOut(now).text;
    return { ok: true, value: { text: value, undo: undefined }, conflicts: [] };
  }
  const { text = "{}" } = takenOut(now, domains);
  const before = now.text === now.undo.after ? now.undo.before : (takenOut(now).text ?? null);
  return { ok: true, value: { text, undo: { before, after: text, domains: Object.fromEntries(left) } }, conflicts: [] };
}

/** Without ours, member by member. */
function takenOut({ text, undo }: StubDomains, domains?: readonly string[]): { readonly text: string | undefined } {
  if (text === undefined || !undo) return { text };
  let rest = text;
  for (const [domain, replaced] of Object.entries(undo.domains)) {
    if (domains && !domains.includes(domain)) continue;
    if (memberText(rest, domain) === undefined) continue;
    rest = replaced === null ? removeMember(rest, domain) : setMember(rest, domain, replaced);
  }
  const empty = undo.before === null && membersOf(rest).members.length === 0;
  return { text: empty ? undefined : rest };
}

/** The addresses that a domain is handed to. */
export function stubServers(text: string | undefined, domain: string): readonly string[] | undefined {
  const value = text === undefined || problemOf(text) !== undefined ? undefined : memberText(text, domain);
  return value === undefined ? undefined : JSON.parse(value);
}

function memberText(text: string, domain: string): string | undefined {
  const member = membersOf(text)
    .members.filter(({ key }) => key === domain)
    .at(-1);
  return member && text.slice(member.valueStart, member.end);
}

function problemOf(text: string): string | undefined {
  let read: unknown;
  try {
    read = JSON.parse(text);
  } catch (caught) {
    return `stubDomains is no JSON: ${(caught as Error).message}`;
  }
  const fine =
    typeof read === "object" &&
    read !== null &&
    !Array.isArray(read) &&
    Object.values(read).every((servers) => Array.isArray(servers) && servers.every((one) => typeof one === "string"));
  return fine ? undefined : 'stubDomains is not of the form {"domain": ["address", …]}';
}
