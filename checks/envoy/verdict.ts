import { execFile } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { resourceJson, type Snapshot, type TypeUrl, typeUrls } from "../../src/proto/index.ts";
import { envoyPlaces, locateEnvoy } from "../../src/proxy/index.ts";

/** Envoy's verdict on a bootstrap: undefined when it takes it, its own words when not. Warnings count as refusals. */
export async function refusalOf(
  bootstrap: JsonObject,
  { name, work }: { readonly name: string; readonly work: string },
): Promise<string | undefined> {
  const { path } = await locateEnvoy(envoyPlaces(process.env));
  const file = join(work, `${name}.json`);
  writeFileSync(file, JSON.stringify(bootstrap));
  // It opens the access log's /dev/stdout by name, which wants a file.
  const said = join(work, `${name}.log`);
  const output = openSync(said, "w");
  closeSync(output);
  const shell = `exec "$0" --mode validate -l warning -c "$1" > "$2" 2>&1`;
  const failed = await new Promise<boolean>((resolve) => {
    execFile("sh", ["-c", shell, path, file, said], { timeout: 30_000 }, (cause) => resolve(cause !== null));
  });
  const words = readFileSync(said, "utf8");
  const warned = words.split("\n").filter((line) => /deprecated/i.test(line));
  return failed ? words.slice(-1500) : warned.length > 0 ? warned.join("\n") : undefined;
}

function all(snapshot: Snapshot, type: TypeUrl): readonly JsonObject[] {
  return [...(snapshot.get(type)?.values() ?? [])].map(({ bytes }) => resourceJson(type, bytes) as JsonObject);
}

/** Everything that a proxy would be told, in one file. */
export function bootstrapOf(id: string, snapshot: Snapshot): JsonObject {
  return bootstrap({ id, ...contentOf(snapshot) });
}

export interface Content {
  readonly clusters: readonly JsonObject[];
  /** With their routes in them. Endpoints are not needed. */
  readonly listeners: readonly JsonObject[];
}

export function contentOf(snapshot: Snapshot): Content {
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
  return {
    clusters: all(snapshot, typeUrls.cluster),
    listeners: all(snapshot, typeUrls.listener).map((listener) => inline(listener) as JsonObject),
  };
}

export function bootstrap({ id, clusters, listeners }: Content & { readonly id: string }): JsonObject {
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
      clusters: [...clusters, ours("xds-grpc"), ours("sds-grpc")],
      listeners: [...listeners],
    },
  };
}
