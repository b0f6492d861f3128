import type { HttpMatch, HttpRule, VirtualService } from "../resources/index.ts";
import { type Finding, finding } from "./finding.ts";
import { gatewayKey } from "./gateway-key.ts";
import { joinMatches } from "./join-matches.ts";
import type { MeshSettings } from "./mesh.ts";
import { resolveHost } from "./resolve-host.ts";
import { visibleTo } from "./service.ts";
import { visibilityOf } from "./visibility.ts";

/** VirtualServices without hosts, by `namespace/name`: others hand a part of their requests to them. */
export type Delegates = ReadonlyMap<string, VirtualService>;

/** The rules of a VirtualService with those of its delegates in their places. */
export interface Delegated {
  readonly http: readonly HttpRule[];
  /** Delegates that were looked up, in order; undefined for one that is not there. */
  readonly used: ReadonlyArray<VirtualService | undefined>;
  readonly findings: readonly Finding[];
}

const keyOf = ({ metadata }: VirtualService, { delegate }: HttpRule) =>
  `${delegate!.namespace || metadata.namespace}/${delegate!.name}`;

/** The delegates that a VirtualService asks for, in order. */
export function delegatesOf(root: VirtualService, delegates: Delegates): ReadonlyArray<VirtualService | undefined> {
  return root.spec.http.filter((rule) => rule.delegate).map((rule) => delegates.get(keyOf(root, rule)));
}

/** Puts the rules of delegates where they are asked for. A delegate that is missing leaves its place empty. */
export function delegated(root: VirtualService, delegates: Delegates, settings: MeshSettings): Delegated {
  const findings: Finding[] = [];
  const http = root.spec.http.flatMap((rule, index) => {
    if (!rule.delegate) return rule;
    const key = keyOf(root, rule);
    const at = `http[${index}]`;
    const found = delegates.get(key);
    if (!found) {
      findings.push(
        finding("mesh/delegate-unknown", {
          severity: "error",
          origin: root.origin,
          message: `${at} hands its requests to VirtualService "${key}", which does not exist, so the rule has no effect`,
          hint: "a delegate is a VirtualService without hosts; one of another namespace is named with its namespace",
        }),
      );
      return [];
    }
    const seen = visibilityOf(found.spec.exportTo, found.metadata.namespace);
    if (found.metadata.namespace !== root.metadata.namespace && !visibleTo(seen, root.metadata.namespace)) {
      findings.push(
        finding("mesh/delegate-unknown", {
          severity: "error",
          origin: root.origin,
          message: `${at} hands its requests to VirtualService "${key}", which is not exported to namespace "${root.metadata.namespace}", so the rule has no effect`,
          hint: `add "${root.metadata.namespace}" to its exportTo`,
        }),
      );
      return [];
    }
    return found.spec.http.flatMap((own, place) => {
      const made = joined(root, { rule, found, own, settings });
      if (made) return made;
      findings.push(
        finding("mesh/delegate-unreachable", {
          origin: found.origin,
          message: `http[${place}] matches nothing of what VirtualService "${root.metadata.namespace}/${root.metadata.name}" hands over in ${at}, so it is not used there`,
          hint: "its match must be within the match of the rule that delegates",
        }),
      );
      return [];
    });
  });
  return { http: Object.freeze(http), used: delegatesOf(root, delegates), findings };
}

/** One rule of a delegate as it holds below the rule that delegates; undefined when no request could match both. */
function joined(
  root: VirtualService,
  parts: {
    readonly rule: HttpRule;
    readonly found: VirtualService;
    readonly own: HttpRule;
    readonly settings: MeshSettings;
  },
): HttpRule | undefined {
  const { rule, own, found, settings } = parts;
  // A delegate hands nothing on: who decides about a request is then found in at most two objects.
  if (own.delegate) return undefined;
  const outer = rule.match.map((match) => inNamespace(match, root.metadata.namespace));
  const inner = own.match.map((match) => inNamespace(match, found.metadata.namespace));
  const match = joinMatches(outer, inner);
  if (match === undefined) return undefined;
  const { delegate: _there, ...shared } = rule;
  const names = [rule.name, own.name].filter((name) => name !== "");
  // A redirect and an answer from here take no rewrite, wherever it was written.
  const rewrite = own.redirect || own.directResponse ? undefined : (own.rewrite ?? shared.rewrite);
  const fault = own.fault ?? (own.redirect ? undefined : shared.fault);
  const mirrored = own.mirror !== undefined || own.mirrors.length > 0 ? own : shared;
  const target = <T extends { readonly host: string }>(destination: T): T => ({
    ...destination,
    host: resolveHost(destination.host as never, found.metadata.namespace, settings),
  });
  // What the outer rule mirrors to is named in the outer namespace, and so on.
  const namespace = mirrored === own ? found.metadata.namespace : root.metadata.namespace;
  const mirrorTarget = <T extends { readonly host: string }>(destination: T): T => ({
    ...destination,
    host: resolveHost(destination.host as never, namespace, settings),
  });
  return Object.freeze({
    ...own,
    name: names.join("-"),
    match,
    route: own.route.map((one) => ({ ...one, destination: target(one.destination) })),
    rewrite,
    timeout: own.timeout ?? shared.timeout,
    retries: own.retries ?? shared.retries,
    fault,
    mirror: mirrored.mirror && mirrorTarget(mirrored.mirror),
    mirrorPercent: mirrored.mirrorPercent,
    mirrorPercentage: mirrored.mirrorPercentage,
    mirrors: mirrored.mirrors.map((one) => ({ ...one, destination: mirrorTarget(one.destination) })),
    corsPolicy: own.corsPolicy ?? shared.corsPolicy,
    headers: own.headers ?? shared.headers,
  }) as HttpRule;
}

const inNamespace = (match: HttpMatch, namespace: string): HttpMatch =>
  match.gateways.length === 0
    ? match
    : { ...match, gateways: match.gateways.map((gateway) => gatewayKey(gateway, namespace)) };
