import { eventually } from "../e2e/isthmus.ts";
import type { Clusters } from "./clusters.ts";

/** Everything that a cluster holds, by `kind.group namespace/name`; the text is what somebody wrote into it. */
export type Inventory = ReadonlyMap<string, string>;

interface Listed {
  readonly kind: string;
  readonly apiVersion: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: object;
    readonly annotations?: Readonly<Record<string, string>>;
  };
}

/** What comes, goes and changes by itself in a cluster where nobody does anything. */
const restless = /^(Lease|EndpointSlice|Endpoints|CertificateSigningRequest|NodeMetrics|PodMetrics)$/;

/** All objects of all kinds that can be listed, whoever made them, without what changes by itself. */
export async function takeInventory(clusters: Clusters, context: string): Promise<Inventory> {
  const kinds = await clusters.must(`kubectl --context=${context} api-resources --verbs=list -o name`);
  const names = kinds.split("\n").filter((name) => name !== "" && !/^(events|componentstatuses)/.test(name));
  const text = await clusters.must(
    `kubectl --context=${context} get --show-managed-fields=false -A -o json ${names.join(",")}`,
  );
  const { items } = JSON.parse(text) as { items: readonly Listed[] };
  return new Map(
    items.filter(({ kind }) => !restless.test(kind)).map((item) => [nameOf(item), written(item)] as const),
  );
}

function nameOf({ kind, apiVersion, metadata: { name, namespace = "" } }: Listed): string {
  const group = apiVersion.includes("/") ? `.${apiVersion.split("/")[0]}` : "";
  return `${kind}${group} ${namespace}/${name}`;
}

/** Labels, annotations and content. Status, and numbers that the server counts, are nobody's writing. */
function written(item: Listed): string {
  const { metadata, status: _status, ...content } = item as Listed & { status?: unknown };
  const { labels = {}, annotations = {} } = metadata;
  const counted = /^(deployment\.kubernetes\.io\/revision|endpoints\.kubernetes\.io\/)/;
  const own = Object.fromEntries(Object.entries(annotations).filter(([name]) => !counted.test(name)));
  return JSON.stringify({ labels, annotations: own, ...content });
}

/** What is different, a line each, as a person would say it. */
export function compareInventories(before: Inventory, after: Inventory): readonly string[] {
  const lines: string[] = [];
  for (const [name, text] of after) {
    const was = before.get(name);
    if (was === undefined) lines.push(`new: ${name}`);
    else if (was !== text) lines.push(`changed: ${name}\n  was ${was}\n  is  ${text}`);
  }
  for (const name of before.keys()) if (!after.has(name)) lines.push(`gone: ${name}`);
  return lines.sort();
}

/** Waits until a cluster holds what it held: what was put away takes its time to be gone. */
export async function becomes(clusters: Clusters, context: string, wanted: Inventory): Promise<void> {
  await eventually(
    // A kind that goes while it is listed is an error; it is none the next time.
    () =>
      takeInventory(clusters, context).then(
        (now) => compareInventories(wanted, now),
        (error: Error) => [error.message],
      ),
    (lines) => lines.length === 0,
    120_000,
  );
}

/** What it holds once nothing more comes: what controllers make for a new cluster or namespace comes a moment later. */
export async function inventoryAtRest(clusters: Clusters, context: string): Promise<Inventory> {
  let last = await takeInventory(clusters, context);
  await eventually(
    async () => {
      const now = await takeInventory(clusters, context);
      const news = compareInventories(last, now);
      last = now;
      return news;
    },
    (news) => news.length === 0,
    120_000,
  );
  return last;
}
