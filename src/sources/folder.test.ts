import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Scope, silentLogger, systemClock, until } from "../base/index.ts";
import { formatViolation } from "../resources/index.ts";
import { scratchDir } from "../testing/index.ts";
import { ResourceStore, type ResourceView, startFolderSource } from "./index.ts";

const namespace = (name: string, label = "x") =>
  `apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ${name}\n  labels: {l: ${label}}\n`;

async function started(dir = scratchDir()) {
  const store = new ResourceStore();
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const start = () =>
    startFolderSource({ dir, cluster: "c1", store, clock: systemClock, log: silentLogger, name: "files" }, scope);
  const names = () =>
    [...store.view.value.byKind.Namespace.values()]
      .map(({ metadata }) => metadata.name)
      .sort()
      .join(" ");
  /** The view as soon as it is as wanted; fails after two seconds. */
  const when = (wanted: (view: ResourceView) => boolean) => until(store.view, wanted, AbortSignal.timeout(2000));
  const whenNames = (wanted: string) => when(() => names() === wanted);
  const problems = () => store.view.value.problems.map((problem) => formatViolation(problem).replace(`${dir}/`, ""));
  return {
    dir,
    store,
    scope,
    start,
    names,
    when,
    whenNames,
    problems,
    write: (file: string, text: string) => writeFileSync(join(dir, file), text),
  };
}

test("everything that is there has been told when it has started, in folders too and from JSON", async () => {
  const { dir, start, write, names } = await started();
  mkdirSync(join(dir, "more"));
  write("a.yaml", `${namespace("a")}---\n${namespace("b")}`);
  write("more/c.json", '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c"}}');
  write("notes.txt", namespace("no"));
  write(".hidden.yaml", namespace("no"));
  await start();
  expect(names()).toBe("a b c");
});

test("a folder that is not there is a failure that names it", async () => {
  const { start } = await started("/nowhere/at/all");
  await expect(start()).rejects.toMatchObject({
    code: "sources/folder",
    message: /"\/nowhere\/at\/all": there is no such/,
  });
});

test("new, changed and deleted files are seen well within 200 ms", async () => {
  const { dir, start, write, whenNames, when, store } = await started();
  await start();
  const took = async (act: () => void, wait: () => Promise<unknown>) => {
    const at = performance.now();
    act();
    await wait();
    return performance.now() - at;
  };
  const times = [
    await took(
      () => write("a.yaml", namespace("a")),
      () => whenNames("a"),
    ),
    await took(
      () => write("a.yaml", namespace("a", "y")),
      () => when(() => [...store.view.value.resources.values()][0]?.metadata.labels["l"] === "y"),
    ),
    await took(
      () => unlinkSync(join(dir, "a.yaml")),
      () => whenNames(""),
    ),
  ];
  expect(Math.min(...times)).toBeLessThan(200);
});

test("a file that cannot be parsed keeps all of its objects, and says so at its line", async () => {
  const { start, write, when, names, problems } = await started();
  write("a.yaml", `${namespace("a")}---\n${namespace("b")}`);
  await start();
  write("a.yaml", "a: [\n");
  await when(({ problems }) => problems.length > 0);
  expect(names()).toBe("a b");
  expect(problems()[0]).toMatch(/^a\.yaml:2:1: .*\(ISM0101\)$/);
  write("a.yaml", namespace("a"));
  await when(({ problems }) => problems.length === 0);
  expect(names()).toBe("a");
});

test("a wrong object keeps its own last good value while its neighbours change", async () => {
  const { start, write, when, store, problems } = await started();
  write("a.yaml", `${namespace("a", "old")}---\n${namespace("b", "old")}`);
  await start();
  write("a.yaml", `${namespace("a", "1")}---\n${namespace("b", "new")}`);
  await when(({ problems }) => problems.length > 0);
  const labels = [...store.view.value.byKind.Namespace.values()].map(({ metadata }) => metadata.labels["l"]);
  expect(labels.sort()).toEqual(["new", "old"]);
  expect(problems()[0]).toMatch(/^a\.yaml:5:15: metadata\.labels\.l: must be text, got 1/);
});

test("an object that moves to another file is at no time gone", async () => {
  const { start, write, when, store, names } = await started();
  write("a.yaml", namespace("a"));
  await start();
  let seenGone = false;
  store.view.subscribe(() => {
    seenGone ||= names() !== "a";
  });
  write("b.yaml", namespace("a"));
  write("a.yaml", "# moved\n");
  await when(({ resources }) => [...resources.values()][0]?.origin.file?.endsWith("b.yaml") === true);
  expect(seenGone).toBe(false);
});

test("of two files with one object the first counts, and the second is told where that is", async () => {
  const { start, write, names, problems } = await started();
  write("a.yaml", namespace("a", "first"));
  write("b.yaml", `\n${namespace("a", "second")}`);
  await start();
  expect(names()).toBe("a");
  expect(problems()).toEqual([
    expect.stringMatching(/^b\.yaml:2:1: metadata\.name: Namespace a stands at .*a\.yaml:1 already/),
  ]);
});

test("a file that replaces another by renaming is read", async () => {
  const { dir, start, write, whenNames } = await started();
  write("a.yaml", namespace("a"));
  await start();
  write(".a.yaml.tmp", namespace("b"));
  renameSync(join(dir, ".a.yaml.tmp"), join(dir, "a.yaml"));
  await whenNames("b");
});

test("files behind a link that is swapped, as Kubernetes mounts a ConfigMap, are read again", async () => {
  const { dir, start, write, whenNames, names } = await started();
  const version = (name: string, text: string) => {
    mkdirSync(join(dir, name));
    write(`${name}/a.yaml`, text);
  };
  version("..1", namespace("a"));
  symlinkSync("..1", join(dir, "..data"));
  symlinkSync("..data/a.yaml", join(dir, "a.yaml"));
  await start();
  expect(names()).toBe("a");
  for (const round of [2, 3]) {
    version(`..${round}`, namespace(`a${round}`));
    symlinkSync(`..${round}`, join(dir, "..data_tmp"));
    renameSync(join(dir, "..data_tmp"), join(dir, "..data"));
    rmSync(join(dir, `..${round - 1}`), { recursive: true });
    await whenNames(`a${round}`);
  }
});

test("a folder that goes keeps what was read, and its successor is watched", async () => {
  const { dir, start, write, when, whenNames, names } = await started(join(scratchDir(), "config"));
  mkdirSync(dir);
  write("a.yaml", namespace("a"));
  await start();
  renameSync(dir, `${dir}.away`);
  await when(({ problems }) => problems.some(({ code }) => code === "ISM0904"));
  expect(names()).toBe("a");
  mkdirSync(dir);
  write("b.yaml", namespace("b"));
  await whenNames("b");
  write("c.yaml", namespace("c"));
  await whenNames("b c");
});

test("what cannot be read is a problem and no crash", async () => {
  const { dir, start, names, problems, write } = await started();
  write("a.yaml", namespace("a"));
  writeFileSync(join(dir, "latin.yaml"), Buffer.from([0x61, 0x3a, 0x20, 0xe9]));
  symlinkSync("loop.yaml", join(dir, "loop.yaml"));
  symlinkSync(".", join(dir, "self"));
  await start();
  expect(names()).toBe("a");
  expect(problems().map((line) => line.replace(/:1:1: .*\(/, " ("))).toEqual([
    "latin.yaml (ISM0903)",
    "loop.yaml (ISM0902)",
  ]);
});

test("a file that is written again with the same content changes nothing", async () => {
  const { start, write, store, whenNames } = await started();
  write("a.yaml", namespace("a"));
  await start();
  const before = [...store.view.value.resources.values()][0];
  write("a.yaml", namespace("a"));
  write("a.yaml", `${namespace("a")}# a comment\n`);
  write("b.yaml", namespace("b"));
  await whenNames("a b");
  expect([...store.view.value.resources.values()][0]).toBe(before);
});
