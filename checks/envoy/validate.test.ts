import { execFile } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { resourceJson, type Snapshot, type TypeUrl, typeUrls } from "../../src/proto/index.ts";
import { envoyPlaces, locateEnvoy } from "../../src/proxy/index.ts";
import { snapshotFor } from "../../src/xds/index.ts";
import { meshOf, nodeOf } from "../../src/xds/testdata/sample.ts";
import { needs } from "../requirements.ts";

const root = join(import.meta.dirname, "../../src/xds/testdata");
const work = mkdtempSync(join(tmpdir(), "isthmus-validate-"));
afterAll(() => rmSync(work, { recursive: true, force: true }));

/** Envoy's verdict on a bootstrap: undefined when it takes it, its own words when not. */
async function refusalOf(bootstrap: JsonObject, name: string): Promise<string | undefined> {
  const { path } = await locateEnvoy(envoyPlaces(process.env));
  const file = join(work, `${name}.json`);
  writeFileSync(file, JSON.stringify(bootstrap));
  // It opens the access log's /dev/stdout by name, which wants a file.
  const said = join(work, `${name}.log`);
  const output = openSync(said, "w");
  closeSync(output);
  const shell = `exec "$0" --mode validate -l error -c "$1" > "$2" 2>&1`;
  const failed = await new Promise<boolean>((resolve) => {
    execFile("sh", ["-c", shell, path, file, said], { timeout: 30_000 }, (cause) => resolve(cause !== null));
  });
  return failed ? readFileSync(said, "utf8").slice(-1500) : undefined;
}

function all(snapshot: Snapshot, type: TypeUrl): readonly JsonObject[] {
  return [...(snapshot.get(type)?.values() ?? [])].map(({ bytes }) => resourceJson(type, bytes) as JsonObject);
}

/** Everything that a proxy would be told, in one file: routes stand in their listeners, endpoints are not needed. */
function bootstrapOf(id: string, snapshot: Snapshot): JsonObject {
  const routes = new Map(all(snapshot, typeUrls.route).map((route) => [route["name"] as string, route]));
  const inline = (value: JsonValue): JsonValue => {
    if (Array.isArray(value)) return value.map(inline);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, part]) => {
        if (key !== "rds") return [key, inline(part)];
        const { routeConfigName } = part as { routeConfigName: string };
        const route = routes.get(routeConfigName);
        if (!route) throw new Error(`no route configuration "${routeConfigName}"`);
        return ["routeConfig", route];
      }),
    );
  };
  const ours = (name: string) => ({
    name,
    type: "STATIC",
    typedExtensionProtocolOptions: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicitHttpConfig: { http2ProtocolOptions: {} },
      },
    },
    loadAssignment: {
      clusterName: name,
      endpoints: [
        { lbEndpoints: [{ endpoint: { address: { socketAddress: { address: "127.0.0.1", portValue: 15012 } } } }] },
      ],
    },
  });
  return {
    node: { id, cluster: "test" },
    dynamicResources: {
      adsConfig: {
        apiType: "GRPC",
        transportApiVersion: "V3",
        grpcServices: [{ envoyGrpc: { clusterName: "xds-grpc" } }],
      },
    },
    staticResources: {
      clusters: [...all(snapshot, typeUrls.cluster), ours("xds-grpc"), ours("sds-grpc")],
      listeners: all(snapshot, typeUrls.listener).map(inline),
    },
  };
}

interface Proxies {
  readonly settings?: Readonly<Record<string, string>>;
  readonly [proxy: string]: { readonly id: string; readonly metadata?: JsonObject } | unknown;
}

// What a gRPC client without a proxy is told is none of Envoy's.
const cases = readdirSync(root).filter((name) => existsSync(join(root, name, "in.yaml")) && name !== "grpc");

describe.each(cases)("Envoy accepts what is made of the example %s", (name) => {
  const read = (file: string) => readFileSync(join(root, name, file), "utf8");
  const { settings = {}, ...proxies } = JSON.parse(read("proxies.json")) as Proxies;
  for (const [proxy, described] of Object.entries(proxies)) {
    const { id, metadata } = described as { id: string; metadata?: JsonObject };
    test(`for ${proxy}`, async (context) => {
      needs(context, "envoy");
      const snapshot = snapshotFor(meshOf(read("in.yaml"), settings), nodeOf(id, metadata));
      expect(await refusalOf(bootstrapOf(id, snapshot), `${name}-${proxy}`)).toBeUndefined();
    });
  }
});

test("a field that Envoy does not know is refused, so that the verdicts above are verdicts", async (context) => {
  needs(context, "envoy");
  const bootstrap = { ...bootstrapOf("sidecar~10.0.0.1~a.b~b.svc.cluster.local", new Map()), unheardOf: {} };
  expect(await refusalOf(bootstrap, "wrong")).toMatch(/unheardOf/);
});
