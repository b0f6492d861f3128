import { Failure } from "../base/index.ts";
import { plainObjects } from "../resources/index.ts";
import type { Labels } from "../values/index.ts";

const annotation = "proxy.istio.io/config";

/**
 * The workers that a pod wants for its proxy, from its annotation `proxy.istio.io/config` (YAML: `concurrency: 2`; 0 for
 * one a core); undefined when it says nothing of them. Throws a `Failure` (`lab/annotation`) when it cannot be read.
 */
export function concurrencyOf(annotations: Labels): number | undefined {
  const text = annotations[annotation];
  if (text === undefined) return undefined;
  const wrong = (why: string) =>
    new Failure("lab/annotation", `annotation "${annotation}": ${why}`, { hint: 'write "concurrency: 2"' });
  const settings = plainObjects(text)[0];
  if (!settings) throw wrong(`"${text}" is no YAML mapping`);
  const wanted = settings["concurrency"];
  if (wanted === undefined || wanted === null) return undefined;
  if (typeof wanted === "number" && Number.isInteger(wanted) && wanted >= 0 && wanted <= 1024) return wanted;
  throw wrong(`concurrency must be a whole number from 0 to 1024, got ${JSON.stringify(wanted)}`);
}
