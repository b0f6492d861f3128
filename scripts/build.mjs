// Builds dist/ from src/: generated protocol files first, then each program with all that it needs, in few files.
// A sidecar that loads a few files instead of hundreds starts with half the processor time (docs/benchmarks.md).
// Types are not looked at here; `npm run check` does that.
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const src = join(root, "src");
const dist = join(root, process.env.ISTHMUS_DIST ?? "dist");

execFileSync(process.execPath, ["scripts/generate.mjs"], { cwd: root, stdio: "inherit" });

const programs = [
  "cli/main.ts",
  "proxy/workers/worker-main.ts",
  ...inFolder("lab").filter((file) => file.endsWith("-main.ts")),
  // Applications: what says of itself that it may be started, or is named by the table of images.
  ...[...inFolder("lab/apps"), ...inFolder("lab/apps/bookinfo")].filter((file) => startsItself(join(src, file))),
];
const bundle = await rolldown({
  cwd: root,
  input: Object.fromEntries(programs.map((file) => [file.replace(/\.ts$/, ""), join(src, file)])),
  platform: "node",
  // Native code lies where its package does.
  external: ["koffi"],
  // Our modules do nothing by being loaded: who takes one thing of a room need not load all of it.
  treeshake: { moduleSideEffects: [{ test: /[\\/]src[\\/]/, sideEffects: false }] },
  tsconfig: join(root, "tsconfig.json"),
});
const { output } = await bundle.generate({
  format: "esm",
  sourcemap: true,
  entryFileNames: "[name].js",
  chunkFileNames: "chunks/[name]-[hash].js",
});
await bundle.close();

for (const program of programs) {
  const own = output.find(({ fileName }) => fileName === program.replace(/\.ts$/, ".js"));
  if (own?.moduleIds?.includes(join(src, program))) continue;
  throw new Error(`src/${program} is a program, and another one imports it: put what they share into a file of its own`);
}
const files = new Map(output.map((file) => [file.fileName, file.type === "chunk" ? file.code : file.source]));
files.set("THIRD-PARTY-LICENSES.txt", notices(output.flatMap((chunk) => chunk.moduleIds ?? [])));
for (const [file, text] of files) writeWhole(join(dist, file), text);
for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
  const file = relative(dist, join(entry.parentPath, entry.name));
  if (entry.isFile() && !files.has(file)) rmSync(join(dist, file));
}
chmodSync(join(dist, "cli/main.js"), 0o755);

/** What is the same stays, and no reader meets half a file: programs may run from dist meanwhile. */
function writeWhole(path, text) {
  if (existsSync(path) && readFileSync(path, "utf8") === text) return;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

function inFolder(folder) {
  return readdirSync(join(src, folder))
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
    .map((name) => `${folder}/${name}`);
}

function startsItself(file) {
  const text = readFileSync(file, "utf8");
  return text.includes("isProgram(import.meta.url)") || /^void serveUntilStopped\(/m.test(text);
}

/** The licences of the packages whose code is in dist, which ask to go along with it. */
function notices(moduleIds) {
  const places = new Set();
  for (const id of moduleIds) {
    const path = relative(root, id.replace(/^\0/, "")).split(sep);
    const at = path.lastIndexOf("node_modules");
    if (at < 0) continue;
    places.add(path.slice(0, at + (path[at + 1].startsWith("@") ? 3 : 2)).join("/"));
  }
  return [...places].sort().map(notice).join(`\n${"-".repeat(80)}\n\n`);
}

function notice(place) {
  const { name, version, license } = JSON.parse(readFileSync(join(root, place, "package.json"), "utf8"));
  const files = readdirSync(join(root, place)).filter((file) => /^(licen[cs]e|notice)/i.test(file));
  const texts = files.map((file) => readFileSync(join(root, place, file), "utf8").trim());
  return `${[`${name} ${version} (${license})`, ...texts].join("\n\n")}\n`;
}
