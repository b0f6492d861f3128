/** Benchmarks by name: `npm run bench` runs all, `npm run bench -- NAME…` some. They print; they never pass or fail. */
const benches: Readonly<Record<string, () => Promise<{ run(print: (line: string) => void): Promise<void> }>>> = {
  "data-path": () => import("./l7.ts"),
  passthrough: () => import("./passthrough.ts"),
  compile: () => import("./compile.ts"),
  push: () => import("./push.ts"),
  certificates: () => import("./certificates.ts"),
  dns: () => import("./dns.ts"),
};

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in benches));
if (unknown.length > 0) {
  console.error(`no benchmark "${unknown.join('", "')}"; there is ${Object.keys(benches).join(", ")}`);
  process.exit(64);
}
console.log(`Node ${process.version} on ${process.platform} ${process.arch}; ratios are of one run, on one machine`);
for (const name of wanted.length > 0 ? wanted : Object.keys(benches)) {
  console.log(`\n== ${name}`);
  try {
    const bench = await benches[name]!();
    await bench.run((line) => console.log(line));
  } catch (caught) {
    console.log(`could not run: ${(caught as Error).message}`);
  }
}
