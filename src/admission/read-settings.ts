import { logLevels } from "../base/index.ts";
import { isPortNumber, parseCidr, parseHostname, parseSocketAddress } from "../values/index.ts";
import { isQuantity } from "./quantity.ts";
import {
  type CaptureSettings,
  defaultInjectionSettings,
  type InjectionSettings,
  type LabelRequirement,
  type LabelSelector,
  type Resources,
} from "./settings.ts";
import {
  anyText,
  flag,
  list,
  object,
  oneOf,
  optional,
  orNull,
  record,
  type Shape,
  shown,
  text,
  whole,
} from "./shape.ts";

/** Settings, or everything that is wrong with them: `capture.excludeInboundPorts[0]: must be …`. */
export type SettingsReading =
  | { readonly outcome: "good"; readonly settings: InjectionSettings }
  | { readonly outcome: "wrong"; readonly problems: readonly string[] };

/** Beyond this it is no file of settings. */
const longestText = 1024 * 1024;

const dnsLabel = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const label = text("lower case letters, digits and dashes, at most 63", (name) => dnsLabel.test(name));
const domain = text("a DNS name", (name) => parseHostname(name) !== undefined && !name.startsWith("*"));
const filled = text("text that is not empty and has no spaces", (word) => /^\S+$/.test(word));
const port = whole(1, 65535);
const anyKey = { article: "a name", is: (key: string) => key !== "" };

const quantities = record(text('an amount such as "100m" or "128Mi"', isQuantity), {
  article: "the name of a resource, such as cpu or memory",
  is: (key) => /^[a-z0-9][-a-z0-9./]{0,252}$/.test(key),
});
const resources = object<Resources>({ requests: quantities, limits: quantities }, { requests: {}, limits: {} });

const requirement: Shape<LabelRequirement> = (value, at, complain) => {
  const read = object<LabelRequirement>({
    key: filled,
    operator: oneOf("In", "NotIn", "Exists", "DoesNotExist"),
    values: optional(list(anyText)),
  })(value, at, complain);
  const needsValues = read.operator === "In" || read.operator === "NotIn";
  if (needsValues && !read.values?.length) complain(`${at}.values`, `is required with ${read.operator}`);
  if (!needsValues && read.values?.length) complain(`${at}.values`, `has no meaning with ${read.operator}`);
  return read;
};
const selectorFields = object<LabelSelector>({
  matchLabels: optional(record(anyText, anyKey)),
  matchExpressions: optional(list(requirement)),
});
const selector: Shape<LabelSelector> = (value, at, complain) => {
  const read = selectorFields(value, at, complain);
  // Kubernetes would take it for everything, which is what the policy is for.
  if (Object.keys(read.matchLabels ?? {}).length + (read.matchExpressions ?? []).length === 0)
    complain(at, "selects everything; name at least one label, or use the policy");
  return read;
};

const ranges = list(text('a range such as "10.0.0.0/8"', (range) => parseCidr(range) !== undefined));
const capture = object<CaptureSettings>(
  {
    includeOutboundIPRanges: (value, at, complain) =>
      Array.isArray(value) && value.length === 1 && value[0] === "*" ? ["*"] : ranges(value, at, complain),
    excludeOutboundIPRanges: ranges,
    excludeOutboundPorts: list(port),
    excludeInboundPorts: list(port),
  },
  defaultInjectionSettings({ cluster: "", tag: "" }).capture,
);

const {
  cluster: _cluster,
  tag: _tag,
  discovery: _discovery,
  ...defaults
} = defaultInjectionSettings({ cluster: "", tag: "" });

const settings = object<
  Omit<InjectionSettings, "version" | "discovery"> & { version: 1; discovery: string | undefined }
>(
  {
    version: (value, at, complain) => {
      if (value !== 1) complain(at, `must be 1, the form that this release reads, got ${shown(value)}`);
      return 1;
    },
    hub: text("a registry and folder without spaces and without a slash at its end, or empty", (hub) =>
      /^(\S*[^/\s])?$/.test(hub),
    ),
    image: filled,
    tag: text("a tag of an image", (tag) => /^[\w][\w.-]{0,127}$/.test(tag)),
    imagePullPolicy: orNull(oneOf("Always", "IfNotPresent", "Never")),
    imagePullSecrets: list(filled),
    dataPlane: oneOf("embedded", "envoy"),
    cluster: text("letters, digits, dash and dot, at most 58", (name) =>
      /^[A-Za-z0-9]([-A-Za-z0-9._]{0,56}[A-Za-z0-9])?$/.test(name),
    ),
    revision: label,
    discovery: optional(text("HOST:PORT", isHostPort)),
    trustDomain: domain,
    systemNamespace: label,
    clusterDomain: domain,
    network: orNull(filled),
    searchDomains: list(domain),
    dnsCapture: flag,
    nativeSidecars: oneOf("auto", "always", "never"),
    resources: object<InjectionSettings["resources"]>({ proxy: resources, init: resources }, defaults.resources),
    proxyLogLevel: oneOf(...logLevels),
    concurrency: whole(0, 1024),
    holdApplication: flag,
    rewriteProbes: flag,
    drainSeconds: whole(1, 3600),
    policy: oneOf("enabled", "disabled"),
    neverInjectSelector: list(selector),
    alwaysInjectSelector: list(selector),
    capture,
    env: record(anyText, { article: "the name of a variable", is: (key) => /^[A-Za-z_][A-Za-z0-9_.-]*$/.test(key) }),
  },
  defaults,
);

/** The text of `injection.json`, read strictly: what is left out has its default, and what is not known is refused. Never throws. */
export function readInjectionSettings(written: string): SettingsReading {
  if (written.length > longestText)
    return {
      outcome: "wrong",
      problems: [`is ${written.length} characters long, and at most ${longestText} are read`],
    };
  let value: unknown;
  try {
    value = JSON.parse(written);
  } catch (caught) {
    return { outcome: "wrong", problems: [`is not JSON: ${(caught as Error).message}`] };
  }
  const problems: string[] = [];
  const read = settings(value, "", (at, problem) => problems.push(at === "" ? problem : `${at}: ${problem}`));
  if (problems.length > 0) return { outcome: "wrong", problems };
  const { discovery, ...rest } = read;
  return {
    outcome: "good",
    settings: defaultInjectionSettings({ ...rest, ...(discovery === undefined ? {} : { discovery }) }),
  };
}

function isHostPort(written: string): boolean {
  const [, name, number] = /^(.+):(\d+)$/.exec(written) ?? [];
  if (name === undefined || !isPortNumber(Number(number))) return false;
  return parseHostname(name) !== undefined || parseSocketAddress(written) !== undefined;
}
