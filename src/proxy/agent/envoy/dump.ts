import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { openAny, typeUrls } from "../../../proto/index.ts";

/** One resource of Envoy's, in the form in which the embedded proxy tells of its own. */
export interface EnvoyResource {
  readonly type: string;
  readonly name: string;
  readonly version: string;
  readonly state: "active" | "warming" | "draining" | "static" | "refused";
  readonly resource: JsonValue;
}

/** What Envoy names by the key above a resource. */
const states: ReadonlyArray<readonly [key: RegExp, state: EnvoyResource["state"]]> = [
  [/^error_state$/, "refused"],
  [/warming/, "warming"],
  [/draining/, "draining"],
  [/^static_/, "static"],
];
const shown = new Set<string>([typeUrls.cluster, typeUrls.endpoints, typeUrls.listener, typeUrls.route]);

/** The resources in an answer of Envoy's `/config_dump`, without its secrets and its bootstrap. */
export function resourcesIn(dump: JsonValue): readonly EnvoyResource[] {
  const found: EnvoyResource[] = [];
  const visit = (value: JsonValue, version: string, state: EnvoyResource["state"]): void => {
    if (Array.isArray(value)) {
      for (const item of value) visit(item, version, state);
      return;
    }
    if (typeof value !== "object" || value === null) return;
    const type = value["@type"];
    if (typeof type === "string" && shown.has(type)) {
      const name = value["name"] ?? value["cluster_name"];
      found.push({ type, name: typeof name === "string" ? name : "", version, state, resource: canonical(value) });
      return;
    }
    const own = typeof value["version_info"] === "string" ? value["version_info"] : version;
    for (const [key, part] of Object.entries(value)) {
      visit(part, own, states.find(([pattern]) => pattern.test(key))?.[1] ?? state);
    }
  };
  visit(dump, "", "active");
  return found;
}

/** As our own tools write it; as it came where it has a type that only Envoy knows. */
function canonical(value: JsonObject): JsonValue {
  try {
    return openAny(value);
  } catch {
    const { "@type": _, ...rest } = value;
    return rest;
  }
}
