// Puts together exactly what goes into the image: dist without maps of sources, and what is not in it but beside it (native
// code), as the lock file has it, with the rights that it has in the image: everybody reads, the owner writes.
// Needs no network. Prints what each part weighs.
//
//   node scripts/image-context.mjs --out DIR [--envoy FILE]
import { chmodSync, cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(fileURLToPath(import.meta.url), "../..");
const { values } = parseArgs({ options: { out: { type: "string" }, envoy: { type: "string" } } });
if (!values.out) fail("say where: --out DIR");
const out = resolve(values.out);
if (existsSync(out) && readdirSync(out).length > 0 && !existsSync(join(out, ".isthmus-image-context")))
  fail(`"${out}" is not empty and was not made by this script; choose another folder`);
if (!existsSync(join(root, "dist/cli/main.js"))) fail("there is no dist/: npm run build makes it");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
writeFileSync(join(out, ".isthmus-image-context"), "");

const own = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const { name, version, description, license, type, engines, bin, exports, dependencies, optionalDependencies } = own;
writeFileSync(
  join(out, "package.json"),
  `${JSON.stringify({ name, version, description, license, type, engines, bin, exports, dependencies, optionalDependencies }, null, 2)}\n`,
);
cpSync(join(root, "LICENSE"), join(out, "LICENSE"));
copy(join(root, "dist"), join(out, "dist"), (file) => !/\.(map|tsbuildinfo)$/.test(file));
for (const path of runtimePackages()) copy(join(root, path), join(out, path), isNeeded);
if (values.envoy) {
  cpSync(values.envoy, join(out, "envoy"), { dereference: true });
  chmodSync(join(out, "envoy"), 0o755);
}
readable(out);
for (const part of readdirSync(out)) if (!part.startsWith(".")) console.log(`${megabytes(join(out, part))} ${part}`);

/** Places in the lock file of what is neither for development nor missing here (an optional package of another platform). */
function runtimePackages() {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const found = [];
  for (const [path, { dev, devOptional, optional }] of Object.entries(packages)) {
    if (path === "" || dev || devOptional) continue;
    if (existsSync(join(root, path))) found.push(path);
    else if (!optional) fail(`"${path}" is in the lock file and not on disk: npm ci`);
  }
  return found;
}

/** Of a package: what runs. Its own dependencies that are nested in it are rows of their own. */
function isNeeded(file) {
  if (/\/node_modules\/[^]*\/node_modules(\/|$)/.test(file.slice(root.length))) return false;
  if (/\.(d\.[cm]?ts|map|md|markdown|flow)$/i.test(file) && !/licen[cs]e/i.test(file)) return false;
  // Programs of other platforms, in packages that carry them all.
  const native = /\/(?:prebuilds|build\/koffi|koffi)\/((?:linux|darwin|win32|freebsd|openbsd|musl)[-_][a-z0-9]+)(\/|$)/.exec(file);
  return !native || native[1].replace("_", "-") === `${process.platform}-${process.arch}`;
}

function copy(from, to, keep) {
  cpSync(from, to, { recursive: true, filter: (file) => keep(file) });
}

/** Whatever the umask of whoever built: the image runs as a user that owns none of it. */
function readable(path) {
  const { mode } = lstatSync(path);
  if ((mode & 0o170000) === 0o120000) return; // a link has no rights of its own
  const runs = (mode & 0o100) !== 0;
  const isFolder = (mode & 0o170000) === 0o040000;
  chmodSync(path, isFolder || runs ? 0o755 : 0o644);
  if (isFolder) for (const entry of readdirSync(path)) readable(join(path, entry));
}

function megabytes(path) {
  const size = (at) => {
    const stat = lstatSync(at);
    return stat.isDirectory() ? readdirSync(at).reduce((sum, entry) => sum + size(join(at, entry)), 0) : stat.size;
  };
  return `${(size(path) / 1e6).toFixed(1).padStart(6)} MB`;
}

function fail(why) {
  console.error(`image-context: ${why}`);
  process.exit(1);
}
