import { availableParallelism, cpus, loadavg } from "node:os";

interface Bench {
  run(print: (line: string) => void): Promise<void>;
}

/** Benchmarks by name: `npm run bench` runs all, `npm run bench -- NAME…` some. They print; they never pass or fail. */
const benches: Readonly<Record<string, () => Promise<Bench>>> = {
  "data-path": () => import("./data-path.ts"),
  "mesh-path": () => import("./mesh-path.ts"),
  "data-planes": () => import("./data-planes.ts"),
  passthrough: () => import("./passthrough.ts"),
  dns: () => import("./dns.ts"),
  certificates: () => import("./certificates.ts"),
  compile: () => import("./compile.ts"),
  push: () => import("./push.ts"),
  kubernetes: () => import("./kubernetes.ts"),
};

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !Object.hasOwn(benches, name));
if (unknown.length > 0) {
  console.error(`no benchmark "${unknown.join('", "')}"; there is ${Object.keys(benches).join(", ")}`);
  process.exit(64);
}
// Leaving by `exit` lets whoever started programs end them.
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const) {
  process.once(signal, () => process.exit(code));
}

const busy = loadavg()[0]!.toFixed(1);
console.log(
  `Node ${process.version} on ${process.platform} ${process.arch}, ${availableParallelism()} cores of ${cpus()[0]?.model.trim() ?? "an unknown CPU"}, load before ${busy}`,
);
console.log("ratios are of one run, on one machine; the rounds of those compared are interleaved; medians");
for (const name of wanted.length > 0 ? wanted : Object.keys(benches)) {
  console.log(`\n== ${name}`);
  const began = performance.now();
  try {
    const bench = await benches[name]!();
    await bench.run((line) => console.log(line));
  } catch (caught) {
    console.log(`!! NOT MEASURED: ${name}: ${(caught as Error).message}`);
  }
  console.log(`(${((performance.now() - began) / 1000).toFixed(0)} s)`);
}
// What a failed benchmark left running must not keep the others' results from being over.
process.exit(0);
