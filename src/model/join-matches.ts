import type { HttpMatch, StringMatch } from "../resources/index.ts";

/**
 * The requests that match one of `outer` and one of `inner`; an empty list matches everything. Undefined when nothing
 * can match both, or when that cannot be said in one match (two different regular expressions, say).
 */
export function joinMatches(
  outer: readonly HttpMatch[],
  inner: readonly HttpMatch[],
): readonly HttpMatch[] | undefined {
  if (outer.length === 0) return inner;
  if (inner.length === 0) return outer;
  const both = inner.flatMap((one) => outer.flatMap((other) => joinMatch(other, one) ?? []));
  return both.length > 0 ? both : undefined;
}

const nothing = Symbol("nothing matches both");
type Nothing = typeof nothing;

function joinMatch(outer: HttpMatch, inner: HttpMatch): HttpMatch | undefined {
  const uri = joinText(outer.uri, inner.uri);
  const scheme = joinText(outer.scheme, inner.scheme);
  const method = joinText(outer.method, inner.method);
  const authority = joinText(outer.authority, inner.authority);
  const headers = joinTexts(outer.headers, inner.headers);
  const queryParams = joinTexts(outer.queryParams, inner.queryParams);
  const withoutHeaders = joinAbsent(outer.withoutHeaders, inner.withoutHeaders);
  const port = joinPlain(outer.port, inner.port);
  const sourceNamespace = joinPlain(outer.sourceNamespace || undefined, inner.sourceNamespace || undefined);
  const gateways = joinGateways(outer.gateways, inner.gateways);
  // Case is ignored for the path of one or of both; a path that only one of them has is taken as that one says.
  const caseless = outer.uri && inner.uri ? outer.ignoreUriCase === inner.ignoreUriCase : true;
  const labels = Object.entries(inner.sourceLabels).every(
    ([key, value]) => (outer.sourceLabels[key] ?? value) === value,
  );
  if (
    uri === nothing ||
    scheme === nothing ||
    method === nothing ||
    authority === nothing ||
    headers === nothing ||
    queryParams === nothing ||
    withoutHeaders === nothing ||
    port === nothing ||
    sourceNamespace === nothing ||
    gateways === nothing ||
    !caseless ||
    !labels
  )
    return undefined;
  return {
    name: [outer.name, inner.name].filter((name) => name !== "").join("-"),
    uri,
    scheme,
    method,
    authority,
    headers,
    withoutHeaders,
    queryParams,
    port,
    sourceNamespace: sourceNamespace ?? "",
    sourceLabels: { ...outer.sourceLabels, ...inner.sourceLabels },
    gateways,
    ignoreUriCase: inner.uri ? inner.ignoreUriCase : outer.ignoreUriCase,
    statPrefix: inner.statPrefix || outer.statPrefix,
  };
}

function joinPlain<T>(outer: T | undefined, inner: T | undefined): T | undefined | Nothing {
  if (outer !== undefined && inner !== undefined && outer !== inner) return nothing;
  return inner ?? outer;
}

/** The narrower of two tests when it lies within the other. */
function joinText(outer: StringMatch | undefined, inner: StringMatch | undefined): StringMatch | undefined | Nothing {
  if (outer === undefined || isAnything(outer)) return inner ?? outer;
  if (inner === undefined || isAnything(inner)) return outer;
  if (outer.regex !== undefined || inner.regex !== undefined) return outer.regex === inner.regex ? inner : nothing;
  if (outer.exact !== undefined) {
    const within = inner.exact !== undefined ? inner.exact === outer.exact : outer.exact.startsWith(inner.prefix ?? "");
    return within ? outer : nothing;
  }
  const [wide, given] = [outer.prefix ?? "", inner.exact ?? inner.prefix ?? ""];
  if (given.startsWith(wide)) return inner;
  return inner.exact === undefined && wide.startsWith(given) ? outer : nothing;
}

/** Whether a test only asks that there is something. */
const isAnything = ({ exact, prefix, regex }: StringMatch) =>
  exact === undefined && (prefix ?? "") === "" && (regex === undefined || regex === "*" || regex === ".*");

type Texts = HttpMatch["headers"];

function joinTexts(outer: Texts, inner: Texts): Texts | Nothing {
  const both: Record<string, StringMatch> = { ...outer };
  for (const [name, test] of Object.entries(inner)) {
    const joined = joinText(outer[name], test);
    if (joined === nothing || joined === undefined) return nothing;
    both[name] = joined;
  }
  return both;
}

/** Of what must not be there the wider test counts: it excludes all that the narrower one does. */
function joinAbsent(outer: Texts, inner: Texts): Texts | Nothing {
  const both: Record<string, StringMatch> = { ...outer };
  for (const [name, test] of Object.entries(inner)) {
    const known = outer[name];
    if (known === undefined) {
      both[name] = test;
      continue;
    }
    const narrower = joinText(known, test);
    if (narrower === nothing) return nothing;
    both[name] = narrower === test ? known : test;
  }
  return both;
}

function joinGateways(outer: readonly string[], inner: readonly string[]): readonly string[] | Nothing {
  if (outer.length === 0) return inner;
  if (inner.length === 0) return outer;
  const both = inner.filter((gateway) => outer.includes(gateway));
  return both.length > 0 ? both : nothing;
}
