import { covers, type Hostname } from "../../values/index.ts";
import { groupsOf, regexProblem } from "../regex.ts";
import { isDnsLabel, isDnsSubdomain, type Path, quoted, type Report, repeats } from "../schema.ts";
import { judgeExportTo } from "./export-to.ts";
import { judgeHeaderName, judgeHeaders } from "./header-rules.ts";
import type { HttpRuleFields, StringMatchFields, VirtualServiceFields } from "./virtual-service.ts";

// The rules of VirtualService that look at more than one field, in the order of the fields.

export function judgeStringMatch(value: StringMatchFields, report: Report): void {
  const set = (["exact", "prefix", "regex"] as const).filter((key) => value[key] !== undefined);
  if (set.length > 1) report([set[1]!], "ISM0515", `excludes ${set[0]}; keep one of ${set.join(", ")}`);
  if (value.regex !== undefined) judgeRegex(value.regex, ["regex"], report);
}

function judgeRegex(pattern: string, path: Path, report: Report): void {
  // A lone star means: is there.
  const problem = pattern === "*" ? undefined : regexProblem(pattern);
  if (problem) report(path, problem.kind === "not-re2" ? "ISM0511" : "ISM0510", `${quoted(pattern)} ${problem.why}`);
}

const retryConditions: ReadonlySet<string> = new Set([
  "5xx",
  "gateway-error",
  "reset",
  "reset-before-request",
  "connect-failure",
  "retriable-4xx",
  "refused-stream",
  "retriable-status-codes",
  "retriable-headers",
  "envoy-ratelimited",
  "http3-post-connect-failure",
  "cancelled",
  "deadline-exceeded",
  "internal",
  "resource-exhausted",
  "unavailable",
]);
const corsMethods: ReadonlySet<string> = new Set([
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "PATCH",
  "DELETE",
  "CONNECT",
  "OPTIONS",
  "TRACE",
  "*",
]);
/** What a proxy keeps for an answer of its own, in bytes. */
export const longestDirectBody = 1024 * 1024;

export function judgeHttpRule(rule: HttpRuleFields, report: Report): void {
  judgeAction(rule, report);
  judgeRewrites(rule, report);
  judgeMatches(rule, report);
  judgeWeights(rule.route, ["route"], report);
  judgeRetries(rule, report);
  judgeFault(rule, report);
  judgeMirrorsAndCors(rule, report);
  judgeHeaders(rule.headers, ["headers"], report);
  for (const [index, { headers }] of rule.route.entries()) judgeHeaders(headers, ["route", index, "headers"], report);
}

function judgeAction(rule: HttpRuleFields, report: Report): void {
  const actions = [
    rule.route.length > 0 ? "route" : undefined,
    rule.redirect ? "redirect" : undefined,
    rule.directResponse ? "directResponse" : undefined,
    rule.delegate ? "delegate" : undefined,
  ].filter((action) => action !== undefined);
  if (actions.length === 0) report([], "ISM0505", "must have one of route, redirect, directResponse, delegate");
  if (actions.length > 1) report([actions[1]!], "ISM0505", `excludes ${actions[0]}; keep one of the two`);
  if (rule.redirect && rule.rewrite) report(["rewrite"], "ISM0505", "excludes redirect; keep one of the two");
  if (rule.redirect && rule.fault) report(["fault"], "ISM0505", "excludes redirect; keep one of the two");
  if (rule.directResponse && rule.rewrite)
    report(["rewrite"], "ISM0505", "excludes directResponse; keep one of the two");
  const body = rule.directResponse?.body;
  if (body && (body.string === undefined) === (body.bytes === undefined))
    report(["directResponse", "body"], "ISM0505", "must have exactly one of string and bytes");
  const bytes = body?.bytes;
  if (bytes !== undefined && !/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(bytes))
    report(["directResponse", "body", "bytes"], "ISM0520", "must be base64");
  const length = body?.string === undefined ? ((bytes?.length ?? 0) / 4) * 3 : Buffer.byteLength(body.string);
  if (length > longestDirectBody)
    report(
      ["directResponse", "body"],
      "ISM0520",
      `is ${length} bytes long, and at most ${longestDirectBody} are taken`,
    );
}

function judgeRewrites({ redirect, rewrite }: HttpRuleFields, report: Report): void {
  if (redirect) {
    const says = [
      redirect.uri,
      redirect.prefixRewrite,
      redirect.authority,
      redirect.scheme,
      redirect.port,
      redirect.derivePort,
    ];
    if (says.every((part) => part === undefined))
      report(["redirect"], "ISM0512", "must say where to: uri, authority, scheme or port");
    if (redirect.uri !== undefined && redirect.prefixRewrite !== undefined)
      report(["redirect", "prefixRewrite"], "ISM0512", "excludes uri; keep one of the two");
    if (redirect.port !== undefined && redirect.derivePort !== undefined)
      report(["redirect", "derivePort"], "ISM0512", "excludes port; keep one of the two");
  }
  if (rewrite) {
    if (rewrite.uri === undefined && rewrite.authority === undefined && !rewrite.uriRegexRewrite)
      report(["rewrite"], "ISM0512", "must say what to: uri, authority or uriRegexRewrite");
    if (rewrite.uri !== undefined && rewrite.uriRegexRewrite)
      report(["rewrite", "uriRegexRewrite"], "ISM0512", "excludes uri; keep one of the two");
    if (rewrite.uriRegexRewrite) judgeRegexRewrite(rewrite.uriRegexRewrite, report);
  }
}

function judgeRegexRewrite(
  { match, rewrite }: { readonly match: string; readonly rewrite: string },
  report: Report,
): void {
  const path = ["rewrite", "uriRegexRewrite"];
  if (match === "") report([...path, "match"], "ISM0510", "must not be empty");
  const before = regexProblem(match);
  judgeRegex(match, [...path, "match"], report);
  if (before) return;
  const groups = groupsOf(match);
  for (const [written, char] of rewrite.matchAll(/\\(.?)/g)) {
    if (char === "\\") continue;
    if (!/^\d$/.test(char!))
      report([...path, "rewrite"], "ISM0512", `${quoted(written)} is neither a group such as "\\1" nor "\\\\"`);
    else if (Number(char) > groups)
      report([...path, "rewrite"], "ISM0512", `${quoted(written)} names a group that the match does not have`);
  }
}

function judgeMatches({ match }: HttpRuleFields, report: Report): void {
  for (const [index, one] of match.entries()) {
    for (const field of ["uri", "scheme", "method", "authority"] as const) {
      const said = one[field];
      if (said && Object.keys(said).length === 0)
        report(["match", index, field], "ISM0515", "must have one of exact, prefix, regex");
    }
    for (const field of ["headers", "withoutHeaders"] as const)
      for (const name of Object.keys(one[field])) judgeHeaderName(name, ["match", index, field, name], report);
    for (const name of Object.keys(one.queryParams))
      if (name === "") report(["match", index, "queryParams", name], "ISM0514", "a query parameter needs a name");
  }
  for (const { index, first } of repeats(match, (one) => JSON.stringify(one)))
    report(["match", index], "ISM0522", `is the same as match[${first}]; remove one`);
}

export function judgeWeights(routes: ReadonlyArray<{ readonly weight: number }>, path: Path, report: Report): void {
  if (routes.length > 1 && routes.every(({ weight }) => weight === 0))
    report(path, "ISM0506", "several destinations need weights, and all are 0; write for instance 50 and 50");
}

function judgeRetries({ retries }: HttpRuleFields, report: Report): void {
  if (!retries) return;
  const { attempts, ...others } = retries;
  const other = Object.entries(others).find(([, value]) => value !== undefined);
  if (attempts === 0 && other)
    report(
      ["retries", other[0]],
      "ISM0507",
      'has no effect without attempts; write "attempts: 2" beside it, or remove it',
    );
  for (const word of (retries.retryOn ?? "").split(",").map((part) => part.trim())) {
    const status = /^[1-5]\d\d$/.test(word);
    if (word !== "" && !status && !retryConditions.has(word))
      report(
        ["retries", "retryOn"],
        "ISM0508",
        `${quoted(word)} is neither a status code nor one of ${[...retryConditions].join(", ")}`,
      );
  }
}

function judgeFault({ fault }: HttpRuleFields, report: Report): void {
  if (!fault) return;
  if (!fault.delay && !fault.abort) report(["fault"], "ISM0516", "must have delay or abort");
  if (fault.delay?.exponentialDelay !== undefined)
    report(["fault", "delay", "exponentialDelay"], "ISM0516", "is not a kind of delay that exists; write fixedDelay");
  else if (fault.delay && fault.delay.fixedDelay === undefined)
    report(["fault", "delay"], "ISM0516", "must have fixedDelay");
  if (
    fault.delay?.fixedDelay !== undefined &&
    fault.delay.percentage === undefined &&
    fault.delay.percent === undefined
  )
    report(["fault", "delay"], "ISM0523", "never happens without a percentage; write for instance {value: 100}");
  if (fault.abort && fault.abort.percentage === undefined)
    report(["fault", "abort"], "ISM0523", "never happens without a percentage; write for instance {value: 100}");
  if (!fault.abort) return;
  const { httpStatus, grpcStatus, http2Error } = fault.abort;
  if (http2Error !== undefined)
    report(
      ["fault", "abort", "http2Error"],
      "ISM0516",
      "is not a kind of abort that exists; write httpStatus or grpcStatus",
    );
  else if ((httpStatus === undefined) === (grpcStatus === undefined))
    report(["fault", "abort"], "ISM0516", "must have exactly one of httpStatus and grpcStatus");
  if (grpcStatus !== undefined && !grpcStatuses.has(grpcStatus))
    report(
      ["fault", "abort", "grpcStatus"],
      "ISM0516",
      `must be one of ${[...grpcStatuses].join(", ")}, got ${quoted(grpcStatus)}`,
    );
}

const grpcStatuses: ReadonlySet<string> = new Set([
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
]);

function judgeMirrorsAndCors({ mirror, mirrors, corsPolicy }: HttpRuleFields, report: Report): void {
  if (mirror && mirrors.length > 0) report(["mirrors"], "ISM0518", "excludes mirror; keep one of the two");
  if (!corsPolicy) return;
  for (const [index, method] of corsPolicy.allowMethods.entries())
    if (!corsMethods.has(method))
      report(
        ["corsPolicy", "allowMethods", index],
        "ISM0513",
        `must be one of ${[...corsMethods].join(", ")}, got ${quoted(method)}`,
      );
  if (corsPolicy.maxAge !== undefined && corsPolicy.maxAge % 1000 !== 0)
    report(["corsPolicy", "maxAge"], "ISM0309", "must be whole seconds");
  for (const [index, origin] of corsPolicy.allowOrigins.entries())
    if (Object.keys(origin).length === 0)
      report(["corsPolicy", "allowOrigins", index], "ISM0515", "must have one of exact, prefix, regex");
}

type Judge = (value: VirtualServiceFields, report: Report) => void;

/** The rules over a whole VirtualService, each with the fields that it looks at. */
export const judgeVirtualService: ReadonlyArray<{
  readonly needs: ReadonlyArray<keyof VirtualServiceFields>;
  readonly judge: Judge;
}> = [
  {
    needs: ["http", "tls", "tcp"],
    judge({ http, tls, tcp }, report) {
      if (http.length + tls.length + tcp.length === 0) report([], "ISM0503", "must have a rule in http, tls or tcp");
      for (const [index, { route }] of tls.entries()) judgeWeights(route, ["tls", index, "route"], report);
      for (const [index, { route }] of tcp.entries()) judgeWeights(route, ["tcp", index, "route"], report);
      const catchAll = http.findIndex(({ match }) => match.length === 0 || match.some((one) => onlyNamed(one)));
      if (catchAll >= 0 && catchAll < http.length - 1)
        report(
          ["http", catchAll + 1],
          "ISM0521",
          `is never reached: http[${catchAll}] matches everything; move that one to the end`,
        );
    },
  },
  {
    needs: ["hosts", "gateways"],
    judge({ hosts, gateways }, report) {
      for (const [index, host] of hosts.entries())
        if (host === "*" && gateways.includes("mesh"))
          report(
            ["hosts", index],
            "ISM0501",
            'must not be "*" for sidecars; write hosts, or name only gateways under gateways',
          );
      for (const [index, host] of hosts.entries()) {
        const other = hosts.findIndex(
          (wider, at) =>
            at !== index &&
            (wider === host ? at < index : wider === "*" || covers(wider as Hostname, host as Hostname)),
        );
        if (other >= 0)
          report(["hosts", index], "ISM0502", `"${host}" is covered by hosts[${other}] "${hosts[other]}"; remove one`);
      }
    },
  },
  {
    needs: ["gateways", "http", "tls", "tcp"],
    judge({ gateways, http, tls, tcp }, report) {
      judgeGatewayNames(gateways, ["gateways"], report);
      for (const [kind, rules] of Object.entries({ http, tls, tcp }))
        for (const [index, { match }] of rules.entries())
          for (const [at, one] of match.entries())
            judgeGatewayNames(one.gateways, [kind, index, "match", at, "gateways"], report);
    },
  },
  {
    needs: ["hosts", "gateways", "http", "tls", "tcp"],
    judge({ hosts, gateways, http, tls, tcp }, report) {
      if (hosts.length > 0) return;
      const why = "a VirtualService without hosts is a delegate, which has HTTP rules only; write its hosts";
      if (tls.length > 0) report(["tls"], "ISM0519", why);
      if (tcp.length > 0) report(["tcp"], "ISM0519", why);
      if (gateways.length !== 1 || gateways[0] !== "mesh")
        report(
          ["gateways"],
          "ISM0519",
          "a delegate is used where the VirtualService that names it is; write its hosts",
        );
      for (const [index, { delegate }] of http.entries())
        if (delegate) report(["http", index, "delegate"], "ISM0519", "a delegate cannot delegate");
    },
  },
  {
    needs: ["hosts", "tls"],
    judge({ hosts, tls }, report) {
      for (const [index, { match }] of tls.entries())
        for (const [at, { sniHosts }] of match.entries())
          for (const [place, sni] of sniHosts.entries()) {
            const covered = hosts.some((host) => host === "*" || covers(host as Hostname, sni as Hostname));
            if (!covered)
              report(
                ["tls", index, "match", at, "sniHosts", place],
                "ISM0517",
                `"${sni}" is not covered by the hosts of this VirtualService; add it there`,
              );
          }
    },
  },
  { needs: ["exportTo"], judge: (value, report) => judgeExportTo(value.exportTo, report, { nobody: false }) },
];

/** Whether a match holds for every request: it names nothing to match, or only what every path begins with. */
function onlyNamed(match: HttpRuleFields["match"][number]): boolean {
  const { name: _name, statPrefix: _statPrefix, ignoreUriCase: _ignore, uri, ...others } = match;
  const everyPath = uri === undefined || uri.prefix === "/" || uri.regex === "*" || uri.regex === ".*";
  return (
    everyPath &&
    Object.values(others).every((part) => part === undefined || part === "" || Object.keys(part).length === 0)
  );
}

function judgeGatewayNames(gateways: readonly string[], path: Path, report: Report): void {
  for (const [index, written] of gateways.entries()) {
    const [first, second, ...rest] = written.split("/");
    const fine = second === undefined ? isDnsSubdomain(first!) : isDnsLabel(first!) && isDnsSubdomain(second);
    if (!fine || rest.length > 0)
      report(
        [...path, index],
        "ISM0504",
        `must be "mesh", the name of a Gateway, or <namespace>/<name>, got ${quoted(written)}`,
      );
  }
}
