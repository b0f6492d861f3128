import { renderAll } from "../../render/manifest.ts";
import { filled, type Manifest, nameOf } from "../../render/object.ts";
import { readSettings } from "../../settings/read.ts";
import { chartProfile } from "../values.ts";

// What a chart is held against, by our own reading of its templates and by Helm's.

export const version = "0.0.0-test";
export const namespace = "isthmus-system";

/** What installing applies, without what a chart leaves to Helm. */
export function installed(...sets: readonly string[]): Readonly<Record<string, unknown>> {
  const settings = readSettings({ files: [], sets: ["cluster=c1", `profile=${chartProfile}`, ...sets], version });
  const all = renderAll(settings, { isDefault: settings.revision === "default", trusted: false });
  return byName(
    all.filter(({ kind, metadata }) => kind !== "Namespace" && !metadata.name.startsWith("isthmus-installation")),
  );
}

export function byName(all: readonly object[]): Readonly<Record<string, unknown>> {
  return Object.fromEntries(all.map((object) => [nameOf(object as Manifest), settled(object as Manifest)]));
}

/** The injector's settings as a value: their text may be written in more ways than one; so may having no annotations. */
function settled({ metadata, ...object }: Manifest): unknown {
  const json = (object["data"] as Readonly<Record<string, string>> | undefined)?.["injection.json"];
  return { ...object, metadata: filled(metadata), ...(json === undefined ? {} : { data: JSON.parse(json) }) };
}
