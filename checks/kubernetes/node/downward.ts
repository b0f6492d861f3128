import type { ContainerSpec, PodObject } from "./pod-object.ts";

/** What a pod says of itself: a field, as an environment variable or a file has it. Undefined for fields there are not. */
export function fieldValue(
  pod: PodObject,
  path: string,
  place: { readonly podIp?: string; readonly hostIp: string; readonly node: string },
): string | undefined {
  const { metadata, spec } = pod;
  const keyed = /^metadata\.(labels|annotations)\['(.*)'\]$/.exec(path);
  if (keyed) return metadata[keyed[1] as "labels" | "annotations"]?.[keyed[2]!] ?? "";
  switch (path) {
    case "metadata.name":
      return metadata.name;
    case "metadata.namespace":
      return metadata.namespace;
    case "metadata.uid":
      return metadata.uid;
    case "metadata.labels":
      return keyValueLines(metadata.labels ?? {});
    case "metadata.annotations":
      return keyValueLines(metadata.annotations ?? {});
    case "spec.nodeName":
      return place.node;
    case "spec.serviceAccountName":
      return spec.serviceAccountName ?? "default";
    case "status.hostIP":
    case "status.hostIPs":
      return place.hostIp;
    case "status.podIP":
    case "status.podIPs":
      return place.podIp ?? "";
    default:
      return undefined;
  }
}

/** Labels or annotations as a kubelet writes them: a line each, in order, the value as Go quotes a string. */
export function keyValueLines(map: Readonly<Record<string, string>>): string {
  return Object.keys(map)
    .sort()
    .map((key) => `${key}=${goQuote(map[key]!)}`)
    .join("\n");
}

const named: Readonly<Record<string, string>> = {
  "\u0007": "\\a",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\v": "\\v",
  "\\": "\\\\",
  '"': '\\"',
};

/** As `strconv.Quote`: what can be printed stays, the rest is escaped. */
function goQuote(text: string): string {
  let quoted = "";
  for (const char of text) {
    const code = char.codePointAt(0)!;
    if (named[char] !== undefined) quoted += named[char];
    else if (code < 0x20 || code === 0x7f) quoted += `\\x${code.toString(16).padStart(2, "0")}`;
    else if (/[\p{L}\p{M}\p{N}\p{P}\p{S}]| /u.test(char)) quoted += char;
    else if (code < 0x10000) quoted += `\\u${code.toString(16).padStart(4, "0")}`;
    else quoted += `\\U${code.toString(16).padStart(8, "0")}`;
  }
  return `"${quoted}"`;
}

const whole = { cpus: 2, memory: 4 * 1024 ** 3 };

/** A container's share of the machine, in units of the divisor, rounded up; what has no limit has the whole machine. */
export function resourceValue(container: ContainerSpec, resource: string, divisor = "1"): string | undefined {
  const [kind, name] = resource.split(".") as [string, string | undefined];
  if ((kind !== "limits" && kind !== "requests") || name === undefined) return undefined;
  const { limits = {}, requests = {} } = container.resources ?? {};
  const written = kind === "limits" ? limits[name] : (requests[name] ?? limits[name]);
  const fallback = kind === "requests" ? "0" : name === "cpu" ? String(whole.cpus) : String(whole.memory);
  const value = quantity(String(written ?? fallback));
  const unit = quantity(divisor === "0" ? "1" : divisor);
  return value === undefined || unit === undefined ? undefined : String(Math.ceil(value / unit - 1e-9));
}

const suffixes: Readonly<Record<string, number>> = {
  "": 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 1024,
  Mi: 1024 ** 2,
  Gi: 1024 ** 3,
  Ti: 1024 ** 4,
};

/** A Kubernetes quantity as a number. */
export function quantity(text: string): number | undefined {
  const [, number, suffix] = /^([0-9.]+(?:[eE][0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$/.exec(text) ?? [];
  return number === undefined ? undefined : Number(number) * suffixes[suffix ?? ""]!;
}
