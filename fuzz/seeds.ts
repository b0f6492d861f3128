import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { buildMesh, defaultMeshSettings } from "../src/model/index.ts";
import { NodeSchema } from "../src/proto/gen/envoy/config/core/v3/base_pb.js";
import { typeUrls } from "../src/proto/index.ts";
import { kindNames, type Resource, readResources } from "../src/resources/index.ts";
import { readNode, snapshotFor } from "../src/xds/index.ts";

/** Encoded resources as the compiler makes them for a sidecar and a gateway of a sample. */
export function messages(kind: "cluster" | "endpoints" | "listener" | "route"): readonly Buffer[] {
  const found: Buffer[] = [];
  for (const name of ["routes", "guide-section-3-cluster2", "http-gateway"]) {
    const { resources } = readResources(readFileSync(join(process.cwd(), `src/xds/testdata/${name}/in.yaml`), "utf8"), {
      cluster: "c",
    });
    const view = Object.fromEntries(kindNames.map((one) => [one, new Map<string, Resource>()]));
    for (const one of resources) view[one.kind]!.set(`${one.metadata.namespace}/${one.metadata.name}`, one);
    const mesh = buildMesh({ view: view as never, settings: { cluster: "c", ...defaultMeshSettings } });
    for (const [id, labels] of [
      ["sidecar~10.1.0.9~x-1.shop~shop.svc.cluster.local", { app: "web" }],
      ["router~10.1.0.2~gw-1.isthmus-system~isthmus-system.svc.cluster.local", { istio: "ingressgateway" }],
    ] as const) {
      const read = readNode(create(NodeSchema, { id, metadata: { LABELS: { ...labels } } }));
      if (!read.ok) throw new Error(read.reason);
      for (const one of snapshotFor(mesh, read.node).get(typeUrls[kind])?.values() ?? [])
        found.push(Buffer.from(one.bytes));
    }
  }
  return found.filter(({ length }) => length > 0).slice(0, 30);
}

/** A key, a certificate and the first flight of a real client. */
export function keyAndCertificate(): { key: KeyObject; certificates: readonly Buffer[]; hellos: readonly Buffer[] } {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const key = createPrivateKey(privateKey.export({ format: "pem", type: "pkcs8" }));
  return { key, certificates: [rootCertificate], hellos: [clientHello] };
}

/** A self-signed P-256 root with a SPIFFE name, made once. */
const rootCertificate = Buffer.from(
  "MIIB1jCCAXygAwIBAgIUHRtmyOY/+dsH6NDX46EQ4QJzZy4wCgYIKoZIzj0EAwIwHjENMAsGA1UECgwEdGVzdDENMAsGA1UEAwwEcm9vdDAeFw0yNjExMjMxNzQ3MzdaFw0zNjExMjAxNzQ3MzdaMB4xDTALBgNVBAoMBHRlc3QxDTALBgNVBAMMBHJvb3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATnR+8Zk9r3SMllaiXRrWSXjdGvi9zUohUyT1UJX1pQFcHkYzYi6iTQGOE7mx89rbWwweWqGoGgQbbxnBL8V5uao4GXMIGUMB0GA1UdDgQWBBTQXBwML4Vri0yR1ZdsKpeV8mUz8zAfBgNVHSMEGDAWgBTQXBwML4Vri0yR1ZdsKpeV8mUz8zAPBgNVHRMBAf8EBTADAQH/MDEGA1UdEQQqMCiGJnNwaWZmZTovL2NsdXN0ZXIubG9jYWwvbnMvZm9vL3NhL3NsZWVwMA4GA1UdDwEB/wQEAwICBDAKBggqhkjOPQQDAgNIADBFAiEAxHyMlFd7TviFGSDyTAMJucLbR1pO94MIk71JJBemTAQCIC09JsgBXfv0ketsle3F2I4K3yMqTS7Zu+J/BxNJOyyi",
  "base64",
);

/** What Node's client sends first, with ALPN and a server name. */
const clientHello = Buffer.from(
  "FgMBAZQBAAGQAwNjPjwn4T0kd5aPabVBIhUR6UozBqsjA0YFADOaH4dHtyA/fo7pGZAnK5nw1nBbV+abNNOLpuC6+FZ6wgvMfGELKAB2EwITAxMBwC/AK8AwwCwAnsAnAGfAKABrAKMAn8ypzKjMqsCvwK3Ao8CfwF3AYcBXwFMAosCuwKzAosCewFzAYMBWwFLAJABqwCMAQMAKwBQAOQA4wAnAEwAzADIAncChwJ3AUQCcwKDAnMBQAD0APAA1AC8A/wEAANEAAAApACcAACRvdXRib3VuZF8uODAwMF8uXy5odHRwYmluLmJhci5nbG9iYWwACwAEAwABAgAKABYAFAAdABcAHgAZABgBAAEBAQIBAwEEACMAAAAQAAsACQVpc3RpbwJoMgAWAAAAFwAAAA0AKgAoBAMFAwYDCAcICAgJCAoICwgECAUIBgQBBQEGAQMDAwEDAgQCBQIGAgArAAUEAwQDAwAtAAIBAQAzACYAJAAdACDI/BpZTQMm9fMBc9K6ydKB8bYmI1H141r8Puus7VaYew==",
  "base64",
);
