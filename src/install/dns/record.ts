import { Failure } from "../../base/index.ts";
import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import { fieldManager, labelsOf } from "../names.ts";
import { configMap, dataOf } from "./cluster-dns.ts";

// What was installed, written down beside the mesh: so that a ConfigMap that somebody put back is told from one that
// never was changed. Undoing does not need it.

const recordName = "isthmus-cluster-dns";

/** Domains by the text that was to forward them: `kube-system/coredns/Corefile`. */
export type DnsRecord = Readonly<Record<string, readonly string[]>>;

export async function readRecord(api: ObjectApi, namespace: string): Promise<DnsRecord> {
  return recordOf(await configMap(api, recordName, namespace));
}

function recordOf(object: KubeObject | undefined): DnsRecord {
  try {
    const read = JSON.parse(dataOf(object)["places"] ?? "{}");
    const entries = Object.entries(read ?? {}).filter(([, list]) => Array.isArray(list));
    return Object.fromEntries(entries) as DnsRecord;
  } catch {
    return {};
  }
}

/** Writes it down, or takes it away when nothing is left. Where the mesh has no namespace there is nobody to ask for it. */
export async function writeRecord(
  api: ObjectApi,
  namespace: string,
  change: (record: DnsRecord) => DnsRecord,
): Promise<void> {
  const object = await configMap(api, recordName, namespace);
  const before = recordOf(object);
  const after = Object.fromEntries(Object.entries(change(before)).filter(([, domains]) => domains.length > 0));
  if (JSON.stringify(before) === JSON.stringify(after)) return;
  const metadata = { name: recordName, namespace, labels: labelsOf("dns") };
  if (Object.keys(after).length === 0) {
    await api.delete({ apiVersion: "v1", kind: "ConfigMap", metadata });
    return;
  }
  const record = { apiVersion: "v1", kind: "ConfigMap", metadata, data: { places: JSON.stringify(after) } };
  const path = `/api/v1/namespaces/${namespace}/configmaps/${recordName}`;
  const query = { fieldManager, force: true };
  try {
    await api.client.json({ method: "PATCH", path, query, body: record, contentType: "application/apply-patch+yaml" });
  } catch (caught) {
    if (Failure.from(caught).code !== "kube/not-found") throw caught;
  }
}
