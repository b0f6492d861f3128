import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { silentLogger } from "../../base/index.ts";
import { FakeClock, scratchDir } from "../../testing/index.ts";
import type { Ip } from "../../values/index.ts";
import type { AccessLogConfig } from "../config/access-log.ts";
import type { AccessRecord } from "./access-log.ts";
import { AccessLogs, LineFile, wholeLines } from "./access-log-file.ts";
import { formatter } from "./access-log-format.ts";
import { connectionRecord } from "./tcp-proxy.ts";

const address = (ip: string, port: number) => ({ ip: ip as Ip, port });
const record = (more: Partial<AccessRecord> = {}): AccessRecord =>
  connectionRecord(
    {
      startedMs: Date.UTC(2026, 0, 2, 3, 4, 5, 6),
      listener: "l",
      remote: address("10.0.0.1", 5),
      destination: address("2001:db8::1", 80),
      sni: "a.b",
      tls: undefined,
    },
    more,
  );
const json = (template: Record<string, string>, omitEmpty = false) => formatter({ kind: "json", template, omitEmpty });

test("an operator alone keeps its type, within a text it is text, absent is null or a dash", () => {
  const line = json({
    time: "%START_TIME%",
    ms: "%DURATION%",
    flags: "%RESPONSE_FLAGS%",
    none: "%UPSTREAM_HOST%",
    mixed: "from %DOWNSTREAM_REMOTE_ADDRESS% to %DOWNSTREAM_LOCAL_ADDRESS% via %UPSTREAM_HOST%",
    agent: "%REQ(X-ORIGINAL?USER-AGENT):5%",
    percent: "100%%",
    unknown: "%NO_SUCH_THING%",
  })(
    record({
      durationMs: 12.4,
      flags: ["UF", "URX"],
      requestHeader: (name) => (name === "user-agent" ? "curl/8.1" : undefined),
    }),
  );
  expect(JSON.parse(line)).toEqual({
    time: "2026-01-02T03:04:05.006Z",
    ms: 12,
    flags: "UF,URX",
    none: null,
    mixed: "from 10.0.0.1:5 to [2001:db8::1]:80 via -",
    agent: "curl/",
    percent: "100%",
    unknown: null,
  });
});

test("what configuration says of a cluster is read by its path; what is no text or number is absent", () => {
  const line = json({
    by: "%CLUSTER_METADATA(isthmus:leaves_by)%",
    deep: "%CLUSTER_METADATA(isthmus:a:b)%",
    whole: "%CLUSTER_METADATA(isthmus)%",
    none: "%CLUSTER_METADATA(isthmus:toString)%",
    other: "%CLUSTER_METADATA(elsewhere:leaves_by)%",
  })(record({ upstreamMetadata: { isthmus: { leaves_by: "a/b", a: { b: 7 } } } }));
  expect(JSON.parse(line)).toEqual({ by: "a/b", deep: 7, whole: null, none: null, other: null });
});

test("values that are absent can be left out", () => {
  expect(json({ a: "%UPSTREAM_HOST%", b: "%LISTENER_NAME%" }, true)(record())).toBe('{"b":"l"}\n');
});

for (const [name, evil] of [
  ["CR and LF", 'x\r\n{"forged":true}'],
  ["an escape", "x\x1b[2Jy"],
  ["C1 and DEL", "x\x9b2J\x7f"],
  ["a line separator", "x\u2028y"],
] as const)
  test(`${name} in what a caller says stay on one line, and no terminal obeys them`, () => {
    for (const write of [
      json({ sni: "%REQUESTED_SERVER_NAME%" }),
      formatter({ kind: "text", template: "%REQUESTED_SERVER_NAME%\n", omitEmpty: false }),
    ]) {
      const line = write(record({ sni: evil }));
      expect(line.endsWith("\n")).toBe(true);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
      expect(line.slice(0, -1)).not.toMatch(/[\x00-\x1f\x7f-\x9f\u2028]/);
    }
  });

const config = (path: string, more: Partial<AccessLogConfig> = {}): AccessLogConfig => ({
  path,
  format: { kind: "json", template: { flags: "%RESPONSE_FLAGS%" }, omitEmpty: false },
  onlyFlags: undefined,
  onlyStatus: undefined,
  ...more,
});

test("lines of all listeners go to their file in order, and only those that are asked for", async () => {
  const path = `${scratchDir()}/log`;
  const logs = new AccessLogs({ clock: new FakeClock(), log: silentLogger });
  const all = logs.for([config(path)])!;
  const some = logs.for([config(path, { onlyFlags: new Set(["UF"]) })])!;
  all.write(record({ flags: ["NR"] }));
  some.write(record({ flags: ["NR"] }));
  some.write(record({ flags: ["UF"] }));
  await logs.stop();
  expect(readFileSync(path, "utf8")).toBe('{"flags":"NR"}\n{"flags":"UF"}\n');
  expect(logs.for([])).toBeUndefined();
});

for (const [name, path, code] of [
  ["a disk that is full", "/dev/full", "ENOSPC"],
  ["a folder that is not there", "/nowhere/at/all/log", "ENOENT"],
] as const)
  test(`${name} costs the lines, is said once, and nothing else`, async () => {
    const said: unknown[] = [];
    const log = {
      ...silentLogger,
      error: (fields: object) => void said.push((fields as { err: { code: string } }).err.code),
    };
    const file = new LineFile(path, { clock: new FakeClock(), log });
    for (let i = 0; i < 3; i++) {
      file.write("line\n");
      await file.flush();
    }
    expect(file.dropped).toBe(3);
    expect(said).toEqual([code]);
    await file.stop();
  });

test("lines of any length arrive whole and in order, also those that come while others are being written", async () => {
  const path = `${scratchDir()}/log`;
  const file = new LineFile(path, { clock: new FakeClock(), log: silentLogger });
  let expected = "";
  const write = (line: string) => {
    expected += line;
    file.write(line);
  };
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 400; i++) write(`${round}.${i} ${"aé漢🙂".repeat(i % 70)}\n`);
    write(`${"漢".repeat(200_000)}\n`);
    const flushed = file.flush();
    for (let i = 0; i < 400; i++) write(`${round}.${i} meanwhile\n`);
    await flushed;
  }
  await file.stop();
  expect(readFileSync(path, "utf8")).toBe(expected);
  expect(file.dropped).toBe(0);
});

test("lines that nobody writes down do not pile up for ever", () => {
  const file = new LineFile("/dev/full", { clock: new FakeClock(), log: silentLogger });
  for (let i = 0; i < 6000; i++) file.write("x".repeat(1024));
  expect(file.dropped).toBeGreaterThan(1000);
});

test("what one write gives a pipe that others write to as well ends with a line", () => {
  const cut = (text: string, most: number) => wholeLines(Buffer.from(text), most).toString();
  expect(cut("one\ntwo\nthree\n", 9)).toBe("one\ntwo\n");
  expect(cut("one\ntwo\nthree\n", 8)).toBe("one\ntwo\n");
  expect(cut("one\ntwo\nthree\n", 7)).toBe("one\n");
  expect(cut("a long line\nb\n", 4)).toBe("a long line\n");
  expect(cut("no end", 3)).toBe("no end");
});
