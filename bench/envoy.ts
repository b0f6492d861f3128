import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { create, type JsonObject } from "@bufbuild/protobuf";
import { NodeSchema } from "../src/proto/gen/envoy/config/core/v3/base_pb.js";
import { envoyBootstrap } from "../src/proxy/agent/envoy/bootstrap.ts";
import { type Program, startProgram } from "./machine.ts";

/** Starts an unmodified Envoy with one worker, told by a control plane of ours without TLS, its keys over `secrets`. */
export function startEnvoy(options: {
  readonly dir: string;
  readonly name: string;
  readonly envoy: string;
  readonly node: string;
  readonly controlPlane: string;
  /** Path of the socket that hands its certificate out. */
  readonly secrets: string;
}): Program {
  const { dir, name, envoy, node, controlPlane, secrets } = options;
  const bootstrap = envoyBootstrap({
    node: create(NodeSchema, { id: node, cluster: "bench" }),
    discovery: controlPlane,
    serverName: "localhost",
    secrets,
    admin: { path: join(dir, `${name}.admin`) },
  });
  const { clusters } = bootstrap["staticResources"] as { clusters: JsonObject[] };
  for (const cluster of clusters) delete cluster["transportSocket"];
  const file = join(dir, `${name}.json`);
  writeFileSync(file, JSON.stringify(bootstrap), { mode: 0o600 });
  const quiet = ["--log-level", "error", "--disable-hot-restart"];
  return startProgram("measured", [envoy, "-c", file, "--concurrency", "1", ...quiet]);
}
