import { type DestinationRule, type HealthCheck, healthCheck, type TrafficPolicy } from "../resources/index.ts";
import {
  changesBetween,
  covers,
  type Hostname,
  isWildcard,
  type Labels,
  type Origin,
  selects,
} from "../values/index.ts";
import { byAge } from "./age.ts";
import { cached } from "./cached.ts";
import { type Finding, finding } from "./finding.ts";
import type { MeshSettings } from "./mesh.ts";
import { resolveHost } from "./resolve-host.ts";
import { type Service, type Visibility, visibleTo } from "./service.ts";
import { visibilityOf } from "./visibility.ts";

/** A named part of a service's endpoints, with what is different for it. */
export interface Subset {
  readonly name: string;
  readonly labels: Labels;
  readonly policy: TrafficPolicy | undefined;
}

/** All DestinationRules of one namespace for one host, merged. The same object as long as they are the same rules. */
export interface MergedRule {
  readonly host: Hostname;
  readonly namespace: string;
  readonly policy: TrafficPolicy | undefined;
  /** How endpoints are asked whether they are well. */
  readonly healthCheck: HealthCheck | undefined;
  readonly subsets: readonly Subset[];
  readonly visibility: Visibility;
  readonly origins: readonly Origin[];
}

/** Rules of one namespace: exact hosts by name, and wildcards from long to short. */
interface NamespaceRules {
  readonly exact: ReadonlyMap<Hostname, MergedRule>;
  readonly wildcards: readonly MergedRule[];
}

/** A rule that only some workloads of its own namespace follow. */
interface SelectiveRule {
  readonly labels: Labels;
  readonly rule: MergedRule;
}

export interface RuleBook {
  readonly byNamespace: ReadonlyMap<string, NamespaceRules>;
  /** By namespace, oldest first: what stands in no other place, since it is not for everybody. */
  readonly selective: ReadonlyMap<string, readonly SelectiveRule[]>;
}

export const noRules: RuleBook = Object.freeze({ byNamespace: new Map(), selective: new Map() });

const booksOf = new WeakMap<RuleBook, Map<string, RuleBook>>();

/**
 * The book as one workload reads it: rules of its namespace that select it go before those for everybody, and what they do
 * not say is as those say. For most workloads it is the same book.
 */
export function bookFor(book: RuleBook, workload: { readonly namespace: string; readonly labels: Labels }): RuleBook {
  const { namespace, labels } = workload;
  const all = book.selective.get(namespace) ?? [];
  const own = all.filter((one) => selects(one.labels, labels));
  if (own.length === 0) return book;
  const key = `${namespace} ${own.map((one) => all.indexOf(one)).join()}`;
  return cached(
    cached(booksOf, book, () => new Map<string, RuleBook>()),
    key,
    () => {
      const general = book.byNamespace.get(namespace);
      const exact = new Map(general?.exact);
      const wildcards = new Map((general?.wildcards ?? []).map((rule) => [rule.host, rule]));
      for (const { rule } of [...own].reverse()) {
        const place = isWildcard(rule.host) ? wildcards : exact;
        place.set(rule.host, over(rule, place.get(rule.host)));
      }
      const rules = { exact, wildcards: [...wildcards.values()].sort(longestFirst) };
      return Object.freeze({ ...book, byNamespace: new Map([...book.byNamespace, [namespace, rules]]) });
    },
  );
}

const overs = new WeakMap<MergedRule, Map<MergedRule | undefined, MergedRule>>();

/** The first rule, filled up with what another says. */
function over(rule: MergedRule, other: MergedRule | undefined): MergedRule {
  if (!other) return rule;
  return cached(
    cached(overs, rule, () => new Map<MergedRule | undefined, MergedRule>()),
    other,
    () => {
      const names = new Set(rule.subsets.map((one) => one.name));
      return Object.freeze({
        ...rule,
        policy: rule.policy ?? other.policy,
        subsets: Object.freeze([...rule.subsets, ...other.subsets.filter((one) => !names.has(one.name))]),
        origins: Object.freeze([...rule.origins, ...other.origins]),
      });
    },
  );
}

const longestFirst = (a: MergedRule, b: MergedRule) => b.host.length - a.host.length || (a.host < b.host ? -1 : 1);

/** The Secrets that rules name which select this workload: those of its own namespace, so that nobody else decides. */
export function selectedCredentials(
  book: RuleBook,
  { namespace, labels }: { readonly namespace: string; readonly labels: Labels },
): readonly string[] {
  const own = (book.selective.get(namespace) ?? []).filter((one) => selects(one.labels, labels));
  const policies = own.flatMap(({ rule }) => [rule.policy, ...rule.subsets.map((one) => one.policy)]);
  const tls = policies.flatMap((one) => [one?.tls, ...(one?.portLevelSettings ?? []).map((port) => port.tls)]);
  return tls.flatMap((one) => one?.credentialName ?? []);
}

const different = new WeakMap<RuleBook, WeakMap<RuleBook, readonly Hostname[]>>();

/** Hosts, some of them wildcards, for which some namespace has other rules in one book than in the other. */
export function changedRuleHosts(before: RuleBook, after: RuleBook): readonly Hostname[] {
  if (before === after) return [];
  const byAfter = cached(different, before, () => new WeakMap<RuleBook, readonly Hostname[]>());
  return cached(byAfter, after, () => {
    const hosts = new Set<Hostname>();
    for (const namespace of new Set([...before.byNamespace.keys(), ...after.byNamespace.keys()])) {
      const [old, now] = [before.byNamespace.get(namespace), after.byNamespace.get(namespace)];
      for (const { key } of changesBetween(old?.exact ?? new Map(), now?.exact ?? new Map())) hosts.add(key);
      const [left, right] = [new Set(old?.wildcards), new Set(now?.wildcards)];
      for (const one of left) if (!right.has(one)) hosts.add(one.host);
      for (const one of right) if (!left.has(one)) hosts.add(one.host);
    }
    const [were, are] = [before, after].map(
      ({ selective }) => new Set([...selective.values()].flat().map((one) => one.rule)),
    );
    for (const one of were!) if (!are!.has(one)) hosts.add(one.host);
    for (const one of are!) if (!were!.has(one)) hosts.add(one.host);
    return [...hosts];
  });
}

const merged = new WeakMap<
  DestinationRule,
  Array<{
    readonly rules: readonly DestinationRule[];
    readonly result: MergedRule;
    readonly findings: readonly Finding[];
  }>
>();

export function buildRuleBook(
  rules: Iterable<DestinationRule>,
  settings: MeshSettings,
): { readonly book: RuleBook; readonly findings: readonly Finding[] } {
  const groups = new Map<string, { namespace: string; host: Hostname; rules: DestinationRule[] }>();
  const selective = new Map<string, SelectiveRule[]>();
  const aside: DestinationRule[] = [];
  for (const rule of rules) {
    const namespace = rule.metadata.namespace;
    if (Object.keys(rule.spec.workloadSelector?.matchLabels ?? {}).length > 0) {
      aside.push(rule);
      continue;
    }
    const host = resolveHost(rule.spec.host, namespace, settings);
    const key = `${namespace}/${host}`;
    const group = groups.get(key);
    if (group) group.rules.push(rule);
    else groups.set(key, { namespace, host, rules: [rule] });
  }
  const byNamespace = new Map<string, { exact: Map<Hostname, MergedRule>; wildcards: MergedRule[] }>();
  const findings: Finding[] = [];
  for (const group of groups.values()) {
    const place = cached(byNamespace, group.namespace, () => ({ exact: new Map(), wildcards: [] }));
    const { result, findings: found } = merge(group.host, group.namespace, group.rules);
    findings.push(...found);
    if (isWildcard(group.host)) place.wildcards.push(result);
    else place.exact.set(group.host, result);
  }
  for (const place of byNamespace.values()) place.wildcards.sort(longestFirst);
  for (const rule of aside.sort((a, b) => byAge(aged(a), aged(b)))) {
    const { namespace } = rule.metadata;
    const { result } = merge(resolveHost(rule.spec.host, namespace, settings), namespace, [rule]);
    const labels = rule.spec.workloadSelector!.matchLabels as Labels;
    cached(selective, namespace, () => []).push({ labels, rule: result });
  }
  return { book: Object.freeze({ byNamespace, selective }), findings };
}

function merge(host: Hostname, namespace: string, unsorted: readonly DestinationRule[]) {
  const rules = [...unsorted].sort((a, b) => byAge(aged(a), aged(b)));
  const oldest = rules[0]!;
  const memory = cached(merged, oldest, () => []);
  const known = memory.find(
    (one) => one.rules.length === rules.length && one.rules.every((rule, at) => rule === rules[at]),
  );
  if (known) return known;
  const subsets = new Map<string, Subset>();
  let policy: TrafficPolicy | undefined;
  let asking: HealthCheck | undefined;
  let policyFrom: DestinationRule | undefined;
  const findings: Finding[] = [];
  const seen = new Set<string>();
  let everyone = false;
  for (const rule of rules) {
    const visibility = visibilityOf(rule.spec.exportTo, namespace);
    if (visibility === "everyone") everyone = true;
    else if (visibility !== "nobody") for (const one of visibility) seen.add(one);
    asking ??= healthCheck.read(rule.metadata.annotations);
    if (rule.spec.trafficPolicy) {
      if (policyFrom)
        findings.push(
          finding("mesh/rule-shadowed", {
            origin: rule.origin,
            message: `the trafficPolicy for "${host}" is not used: "${policyFrom.metadata.name}" of the same namespace set one before`,
            hint: "write one DestinationRule for a host",
          }),
        );
      else [policy, policyFrom] = [rule.spec.trafficPolicy, rule];
    }
    for (const subset of rule.spec.subsets) {
      const before = subsets.get(subset.name);
      if (!before)
        subsets.set(
          subset.name,
          Object.freeze({ name: subset.name, labels: subset.labels, policy: subset.trafficPolicy }),
        );
      else if (JSON.stringify(before.labels) !== JSON.stringify(subset.labels))
        findings.push(
          finding("mesh/subset-conflict", {
            origin: rule.origin,
            message: `subset "${subset.name}" of "${host}" is defined twice with different labels; the first one counts`,
            hint: "give the subsets different names",
          }),
        );
    }
  }
  const result: MergedRule = Object.freeze({
    host,
    namespace,
    policy,
    healthCheck: asking && Object.freeze(asking),
    subsets: Object.freeze([...subsets.values()]),
    visibility: everyone ? "everyone" : seen.size > 0 ? seen : "nobody",
    origins: Object.freeze(rules.map((rule) => rule.origin)),
  });
  const entry = { rules, result, findings };
  if (memory.length > 8) memory.shift();
  memory.push(entry);
  return entry;
}

function aged(rule: DestinationRule) {
  return {
    created: rule.metadata.creationTimestamp ?? 0,
    namespace: rule.metadata.namespace,
    name: rule.metadata.name,
  };
}

/**
 * The rule that a client of `namespace` follows for a service: of its own namespace, else of the service's, else of
 * the system namespace; in each the most specific host. The search ends at the first namespace that has one: rules of
 * different namespaces are not merged.
 */
export function ruleFor(
  book: RuleBook,
  service: Service,
  client: { readonly namespace: string; readonly systemNamespace: string },
): MergedRule | undefined {
  if (book.byNamespace.size === 0) return undefined;
  const byClient = cached(found, book, () => new Map<string, WeakMap<Service, MergedRule | null>>());
  const byService = cached(byClient, `${client.namespace}/${client.systemNamespace}`, () => new WeakMap());
  let rule = byService.get(service);
  if (rule === undefined) {
    rule = findRule(book, service, client) ?? null;
    byService.set(service, rule);
  }
  return rule ?? undefined;
}

/** The rules about a service that clients of any namespace may follow, one a namespace, in order of namespace. */
export function rulesAbout(book: RuleBook, service: Service): readonly MergedRule[] {
  const about: MergedRule[] = [];
  for (const namespace of [...book.byNamespace.keys()].sort()) {
    const { exact, wildcards } = book.byNamespace.get(namespace)!;
    const rule = exact.get(service.hostname) ?? wildcards.find((one) => covers(one.host, service.hostname));
    if (rule) about.push(rule);
  }
  return about;
}

const found = new WeakMap<RuleBook, Map<string, WeakMap<Service, MergedRule | null>>>();

function findRule(
  book: RuleBook,
  service: Service,
  client: { readonly namespace: string; readonly systemNamespace: string },
): MergedRule | undefined {
  const tried = new Set<string>();
  const places = [
    ...(client.namespace === client.systemNamespace ? [] : [client.namespace]),
    service.namespace,
    client.systemNamespace,
  ];
  for (const place of places) {
    if (tried.has(place)) continue;
    tried.add(place);
    const rules = book.byNamespace.get(place);
    if (!rules) continue;
    const visible = (rule: MergedRule) => place === client.namespace || visibleTo(rule.visibility, client.namespace);
    const exact = rules.exact.get(service.hostname);
    if (exact && visible(exact)) return exact;
    for (const rule of rules.wildcards) if (covers(rule.host, service.hostname) && visible(rule)) return rule;
  }
  return undefined;
}
