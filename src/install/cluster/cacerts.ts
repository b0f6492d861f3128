import { createHash } from "node:crypto";
import {
  type CacertsFiles,
  cacertsNames,
  checkCacerts,
  createIntermediate,
  createRoot,
  demoOrganization,
} from "../../ca/index.ts";
import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import { cacertsSecret, labelsOf } from "../names.ts";
import type { Manifest } from "../render/object.ts";

/** The Secret that a cluster's control plane signs with, as it was found. */
export type CacertsState =
  | { readonly kind: "missing" }
  | { readonly kind: "wrong"; readonly problems: readonly string[] }
  /** `root`: fingerprints of the roots, by which clusters are compared. */
  | { readonly kind: "sound"; readonly root: string; readonly notAfter: number; readonly demo: boolean };

export async function cacertsState(
  api: ObjectApi,
  options: { readonly namespace: string; readonly nowMs: number; readonly demoAllowed: boolean },
): Promise<CacertsState> {
  const { namespace, nowMs, demoAllowed } = options;
  const found = await api.get({ apiVersion: "v1", kind: "Secret", metadata: { name: cacertsSecret, namespace } });
  return found ? judgeCacerts(found, { nowMs, demoAllowed }) : { kind: "missing" };
}

/** Throws nothing: everything that is wrong is in the answer, file by file. */
export function judgeCacerts(
  secret: KubeObject,
  { nowMs, demoAllowed }: { readonly nowMs: number; readonly demoAllowed: boolean },
): CacertsState {
  const data = (secret["data"] ?? {}) as Readonly<Record<string, string>>;
  const files = Object.fromEntries(
    cacertsNames.map((name) => [
      name,
      Object.hasOwn(data, name) ? Buffer.from(data[name]!, "base64").toString() : undefined,
    ]),
  ) as Record<(typeof cacertsNames)[number], string | undefined>;
  const checked = checkCacerts(files, { nowMs, demo: demoAllowed ? "allowed" : "refused" });
  if (!checked.ok)
    return {
      kind: "wrong",
      problems: checked.problems.map(({ file, message, code }) => `${file} ${message} (${code})`),
    };
  const { trust, notAfter, demo } = checked.cacerts;
  return { kind: "sound", root: fingerprint(trust.pem), notAfter, demo };
}

/** SHA-256 over the roots' PEM, shortened: two clusters with one root show the same one. */
export function fingerprint(pem: string): string {
  const parts = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const digests = parts.map((part) => {
    const body = part.replaceAll(/-----[A-Z ]+-----|\s/g, "");
    return createHash("sha256").update(Buffer.from(body, "base64")).digest("hex").slice(0, 16);
  });
  return digests.sort().join("+");
}

/** Certificates for a demo: one root that is made now, an intermediate for each cluster, and nobody keeps the root's key. */
export function demoCacerts(
  clusters: readonly string[],
  { nowMs, namespace }: { readonly nowMs: number; readonly namespace: string },
): ReadonlyMap<string, Manifest> {
  const organization = demoOrganization;
  const issuer = createRoot({ nowMs, organization });
  return new Map(
    clusters.map((cluster) => {
      const files: CacertsFiles = createIntermediate({ nowMs, issuer, cluster, organization, issuerName: "demo root" });
      return [cluster, cacertsManifest(files, namespace)];
    }),
  );
}

function cacertsManifest(files: CacertsFiles, namespace: string): Manifest {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: cacertsSecret, namespace, labels: labelsOf("base") },
    type: "Opaque",
    data: Object.fromEntries(cacertsNames.map((name) => [name, Buffer.from(files[name]).toString("base64")])),
  };
}
