/** Which rooms of src/ a room may import. A room not named here is an error; so is an import that is not in its list. */
export const rooms: Readonly<Record<string, readonly string[]>> = {
  base: [],
  values: ["base"],
  proto: ["values"],
  resources: ["base", "values"],
  kube: ["base", "values", "resources"],
  sources: ["base", "values", "resources", "kube"],
  model: ["base", "values", "resources"],
  xds: ["base", "values", "proto", "resources", "model"],
  ads: ["base", "values", "proto"],
  ca: ["base", "values", "proto", "ads"],
  dns: ["base", "values"],
  proxy: ["base", "values", "proto", "ads", "ca", "dns"],
  admission: ["base", "values", "resources", "kube"],
  control: ["base", "values", "proto", "resources", "kube", "sources", "model", "xds", "ads", "ca", "dns", "admission"],
  install: ["base", "values", "resources", "kube", "ca", "admission"],
  lab: ["base", "values", "resources", "ca", "control", "proxy", "install"],
  cli: [
    "base",
    "values",
    "proto",
    "resources",
    "kube",
    "sources",
    "model",
    "xds",
    "ads",
    "ca",
    "dns",
    "proxy",
    "admission",
    "control",
    "install",
    "lab",
  ],
  testing: ["base", "values", "proto", "resources"],
};

/** Rooms whose functions depend on their arguments alone. Of `base` they use failures and types, nothing that runs. */
export const pureRooms: readonly string[] = ["values", "proto", "resources", "model", "xds"];

/** Node's modules that a pure room may use: they compute, and touch nothing outside. */
export const pureModules: readonly string[] = ["node:net#isIP", "node:crypto", "node:buffer"];

/** Names that a pure room may take from `base` at run time. */
export const pureBaseNames: readonly string[] = ["Failure", "within", "explain", "unreachable"];

/** Each npm package has one home, so that replacing it is a change in one place. */
export const packageHomes: Readonly<Record<string, readonly string[]>> = {
  "@bufbuild/protobuf": ["proto", "xds", "ads", "ca", "proxy", "control", "cli", "lab"],
  "@grpc/grpc-js": ["ads/grpc.ts", "ads/grpc"],
  chokidar: ["sources/folder.ts"],
  commander: ["cli"],
  "dns-packet": ["dns/packet.ts"],
  jose: ["ca/tokens.ts"],
  koffi: ["proxy/l4/original-dst.ts"],
  picocolors: ["cli", "lab"],
  pino: ["base/log.ts"],
  "prom-client": ["base/metrics.ts"],
  yaml: ["resources"],
  zod: ["resources"],
};

/** Words with one home each, and why. */
export const reserved: ReadonlyArray<{
  readonly word: RegExp;
  readonly homes: readonly string[];
  readonly why: string;
}> = [
  {
    word: /\b(Date\.now|setTimeout|setInterval|performance\.now)\b/,
    homes: ["base/clock.ts", "lab/apps/"],
    why: "take a Clock, so that a test can hold the time",
  },
  {
    word: /\bMath\.random\b/,
    homes: ["cli/", "control/start.ts", "lab/", "proxy/workers/worker-main.ts"],
    why: "take a random source, so that a test can hold it",
  },
  {
    word: /\bprocess\.env\b/,
    homes: ["cli/", "control/config.ts", "lab/"],
    why: "settings are read once, at the start",
  },
  { word: /\bconsole\./, homes: ["cli/", "lab/apps/"], why: "take a Logger" },
];
