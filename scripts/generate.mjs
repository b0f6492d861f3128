// Generates src/proto/gen from the protocol definitions that @grpc/grpc-js-xds ships, and from our own in proto/.
// Runs offline: the buf binary comes from npm. Skips itself when nothing changed since the last run.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const out = join(root, "src/proto/gen");
const deps = join(root, "node_modules/@grpc/grpc-js-xds/deps");
const own = join(root, "proto");

/** What we speak. Everything these import comes along. Never the whole tree: parts of it import files nobody ships. */
const envoyRoots = [
  "envoy/admin/v3/config_dump.proto",
  "envoy/config/accesslog/v3/accesslog.proto",
  "envoy/config/bootstrap/v3/bootstrap.proto",
  "envoy/config/cluster/v3/cluster.proto",
  "envoy/config/cluster/v3/outlier_detection.proto",
  "envoy/config/core/v3/health_check.proto",
  "envoy/config/endpoint/v3/endpoint.proto",
  "envoy/config/listener/v3/listener.proto",
  "envoy/config/rbac/v3/rbac.proto",
  "envoy/config/route/v3/route.proto",
  "envoy/extensions/access_loggers/file/v3/file.proto",
  "envoy/extensions/access_loggers/stream/v3/stream.proto",
  "envoy/extensions/clusters/aggregate/v3/cluster.proto",
  "envoy/extensions/filters/http/cors/v3/cors.proto",
  "envoy/extensions/filters/http/fault/v3/fault.proto",
  "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
  "envoy/extensions/filters/http/health_check/v3/health_check.proto",
  "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
  "envoy/extensions/filters/http/rbac/v3/rbac.proto",
  "envoy/extensions/filters/http/router/v3/router.proto",
  "envoy/extensions/filters/http/set_filter_state/v3/set_filter_state.proto",
  "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
  "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
  "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
  "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
  "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
  "envoy/extensions/filters/network/rbac/v3/rbac.proto",
  "envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.proto",
  "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.proto",
  "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
  "envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto",
  "envoy/extensions/load_balancing_policies/maglev/v3/maglev.proto",
  "envoy/extensions/load_balancing_policies/random/v3/random.proto",
  "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.proto",
  "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.proto",
  "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
  "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
  "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto",
  "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
  "envoy/extensions/transport_sockets/tls/v3/tls.proto",
  "envoy/extensions/transport_sockets/tls/v3/secret.proto",
  "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
  "envoy/service/discovery/v3/ads.proto",
  "envoy/service/discovery/v3/discovery.proto",
  "envoy/service/secret/v3/sds.proto",
  "google/rpc/status.proto",
];
const ownRoots = readdirSync(own, { recursive: true }).filter((file) => file.endsWith(".proto"));

const stamp = createHash("sha256")
  .update(readFileSync(fileURLToPath(import.meta.url)))
  .update(readFileSync(join(root, "package-lock.json")));
for (const file of ownRoots) stamp.update(readFileSync(join(own, file)));
const digest = stamp.digest("hex");
const stampFile = join(out, ".stamp");
if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === digest) process.exit(0);

// The definitions use an option that the validate.proto beside them is too old to know.
// It only annotates; give it the field, with a number that is free in each of the rule messages.
const ignoreEmptyNumber = { StringRules: 26, BytesRules: 14, RepeatedRules: 5, MapRules: 6 };
function patchValidate(text) {
  return text.replace(/^message (\w+Rules) \{$/gm, (line, name) => {
    const scalar = /^(Float|Double|U?Int32|U?Int64|S?Int32|S?Int64|SInt32|SInt64|S?Fixed32|S?Fixed64)Rules$/.test(name);
    const number = scalar ? 8 : ignoreEmptyNumber[name];
    return number ? `${line}\n    optional bool ignore_empty = ${number};` : line;
  });
}

const work = mkdtempSync(join(tmpdir(), "isthmus-generate-"));
try {
  cpSync(join(deps, "envoy-api"), join(work, "envoy-api"), { recursive: true });
  cpSync(join(deps, "googleapis"), join(work, "googleapis"), { recursive: true });
  cpSync(join(deps, "xds"), join(work, "xds"), { recursive: true });
  cpSync(own, join(work, "own"), { recursive: true });
  mkdirSync(join(work, "pgv/validate"), { recursive: true });
  const validate = readFileSync(join(deps, "protoc-gen-validate/validate/validate.proto"), "utf8");
  writeFileSync(join(work, "pgv/validate/validate.proto"), patchValidate(validate));
  writeFileSync(
    join(work, "buf.yaml"),
    `version: v2\nmodules:\n${["envoy-api", "googleapis", "xds", "pgv", "own"].map((path) => `  - path: ${path}\n`).join("")}`,
  );
  const template = {
    version: "v2",
    inputs: [{ binary_image: "image.binpb", exclude_types: ["validate", "udpa.annotations", "xds.annotations", "envoy.annotations"] }],
    plugins: [
      {
        local: [process.execPath, join(root, "node_modules/@bufbuild/protoc-gen-es/bin/protoc-gen-es")],
        out: "gen",
        include_imports: true,
        strategy: "all",
        opt: ["target=js+dts", "import_extension=js"],
      },
    ],
  };
  writeFileSync(join(work, "buf.gen.yaml"), JSON.stringify(template));
  const buf = join(root, "node_modules/@bufbuild/buf/bin/buf");
  const paths = [
    ...envoyRoots.map((file) => (file.startsWith("google/") ? `googleapis/${file}` : `envoy-api/${file}`)),
    ...ownRoots.map((file) => `own/${file}`),
  ];
  const run = (args) => execFileSync(process.execPath, [buf, ...args], { cwd: work, stdio: ["ignore", "inherit", "inherit"] });
  run(["build", ...paths.flatMap((path) => ["--path", path]), "--exclude-source-info", "-o", "image.binpb"]);
  run(["generate", "--template", "buf.gen.yaml"]);
  rmSync(out, { recursive: true, force: true });
  cpSync(join(work, "gen"), out, { recursive: true });
  writeFileSync(stampFile, digest);
  console.log(`generated ${readdirSync(out, { recursive: true }).filter((file) => file.endsWith(".js")).length} protocol files`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
