import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createLogger, Scope } from "../base/index.ts";
import { FakeClock, scratchDir } from "../testing/index.ts";
import { defaultInjectionSettings, writeInjectionSettings } from "./settings.ts";
import { startSettingsFile } from "./settings-file.ts";

const textOf = (tag: string) => writeInjectionSettings(defaultInjectionSettings({ cluster: "c", tag }));

async function started() {
  const file = join(scratchDir(), "injection.json");
  writeFileSync(file, textOf("1"));
  const clock = new FakeClock();
  const events: string[] = [];
  const destination = { write: (line: string) => void events.push(JSON.parse(line).event) };
  const log = createLogger({ level: "info", name: "test", destination });
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const settings = await startSettingsFile(file, { clock, log }, scope);
  /** Lets it look once more; the file is read in real time. */
  const look = async () => {
    clock.advance(5_000);
    await expect.poll(() => clock.pending, { interval: 2 }).toBe(1);
  };
  return { file, clock, events, scope, settings, look };
}

test("what is written later counts, and what is wrong or gone changes nothing and is said once", async () => {
  const { file, events, settings, look } = await started();
  await look();
  writeFileSync(file, textOf("2"));
  await look();
  expect(settings.value.tag).toBe("2");
  writeFileSync(file, '{"version": 1}');
  await look();
  await look();
  rmSync(file);
  await look();
  await look();
  expect(settings.value.tag).toBe("2");
  writeFileSync(file, textOf("3"));
  await look();
  expect(settings.value.tag).toBe("3");
  const changed = "the settings of injection were changed";
  const kept = "going on with the settings that were read last";
  expect(events).toEqual([changed, kept, kept, changed]);
});

test("nothing looks any more once it is stopped", async () => {
  const { clock, scope } = await started();
  await scope.close();
  expect(clock.pending).toBe(0);
});

test("without good settings it does not start, and all that is wrong is said", async () => {
  const file = join(scratchDir(), "injection.json");
  const deps = { clock: new FakeClock(), log: createLogger({ level: "silent", name: "test" }) };
  await expect(startSettingsFile(file, deps, new Scope())).rejects.toMatchObject({ code: "injection/settings" });
  writeFileSync(file, '{"version": 1, "policy": "on"}');
  await expect(startSettingsFile(file, deps, new Scope())).rejects.toThrow(
    /\n {2}tag: .*\n {2}cluster: .*\n {2}policy: /,
  );
});
