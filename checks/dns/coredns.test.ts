import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../../src/base/index.ts";
import { buildZone, startDnsServer } from "../../src/dns/index.ts";
import { parseCorefile } from "../../src/install/dns/corefile.ts";
import { type CorefileWish, cleanCorefile, editCorefile, refusals } from "../../src/install/dns/corefile-edit.ts";
import { formOf, guideConfigMap } from "../../src/install/dns/forms.ts";
import { reloadHash, reloadState } from "../../src/install/dns/loaded.ts";
import { compareVersions } from "../../src/install/dns/version.ts";
import { parseHostname, parseIp } from "../../src/values/index.ts";
import { answerOf, type Coredns, corednsBinaries, freePort, notAble, runCoredns, writeWhole } from "./coredns.ts";

const binaries = corednsBinaries();
// The forms ask port 53, so the mesh's DNS of these tests must have it, on loopback addresses of its own.
const able = process.getuid?.() === 0 && binaries.length > 0;
const [mesh, other] = [parseIp("127.77.0.53")!, parseIp("127.77.1.53")!];
const loopback = parseIp("127.0.0.1")!;
const importer = () => [];
const waitMs = 60_000;

const scope = new Scope();
beforeAll(async () => {
  if (!able) return;
  for (const [ip, address] of [
    [mesh, "240.0.0.2"],
    [other, "240.0.0.9"],
  ] as const) {
    const names = [{ name: parseHostname("httpbin.bar.global")!, addresses: [parseIp(address)!] }];
    const zone = new Cell(buildZone({ suffixes: [parseHostname("global")!], names }));
    const common = { log: silentLogger, metrics: new Metrics(), clock: systemClock };
    await startDnsServer({ listen: [{ ip, port: 53 }], zone, ...common }, scope);
  }
});
afterAll(() => scope.close());

/** What a cluster's Corefile has, with `hosts` in the place of `kubernetes`, which needs an API server. */
const clusterFile = (port: number, metrics: number, bind = "") => `# of the owner
.:${port} {
    errors${bind}
    hosts {
        10.96.0.1 kubernetes.default.svc.cluster.local
        fallthrough
    }
    prometheus 127.0.0.1:${metrics}
    cache 30
    reload 2s 1s
    loadbalance
}
corp.example:${port} { # somebody's zone
    template IN A {
        answer "{{ .Name }} 60 IN A 192.0.2.7"
    }${bind}
}
`;

function wishFor({ version }: Pick<Coredns, "version">, ip = mesh): CorefileWish {
  const options = { domains: ["global"], ips: [ip], defaultPort: 53, replace: false, complete: false };
  return { form: formOf(version), version, ...options };
}

function install(text: string, wish: CorefileWish): string {
  const edited = editCorefile({ main: text, importer }, wish);
  if (!edited.ok) throw new Error(edited.problem.message);
  return edited.text;
}

if (!able) test("real CoreDNS programs", notAble);
describe.skipIf(!able).each(binaries)("CoreDNS $name", (binary) => {
  const answer = (port: number, name: string, ip = loopback) => answerOf({ ip, port }, name);
  const eventually = (look: () => Promise<unknown>) => expect.poll(look, { timeout: waitMs, interval: 200 });

  test("takes our block, answers the mesh's names and all others as before, reloads, and is as before after remove", async () => {
    const [port, metrics] = [await freePort(), await freePort()];
    const before = clusterFile(port, metrics);
    const running = runCoredns(binary, install(before, wishFor(binary)));
    await eventually(() => answer(port, "httpbin.bar.global")).toBe("240.0.0.2");
    await eventually(() => answer(port, "kubernetes.default.svc.cluster.local")).toBe("10.96.0.1");
    await eventually(() => answer(port, "www.corp.example")).toBe("192.0.2.7");
    await eventually(() => answer(port, "nobody.bar.global")).toBe("no-name");

    // The Service got another address: the block is renewed in place, and read again.
    const text = install(readFileSync(running.corefile, "utf8"), wishFor(binary, other));
    writeWhole(running.corefile, text);
    await eventually(() => answer(port, "httpbin.bar.global")).toBe("240.0.0.9");
    if (compareVersions(binary.version, [1, 7, 0]) >= 0) {
      const state = async () => reloadState(await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text());
      await eventually(async () => {
        const { hashes, failures } = await state();
        return { ours: hashes.map(({ name, value }) => reloadHash(text, importer, name) === value), failures };
      }).toEqual({ ours: [true], failures: 0 });
    }

    const removed = cleanCorefile(readFileSync(running.corefile, "utf8"));
    expect(removed).toBe(before);
    writeWhole(running.corefile, removed);
    await eventually(() => answer(port, "nobody2.bar.global")).not.toBe("no-name");
    await eventually(() => answer(port, "www.corp.example")).toBe("192.0.2.7");
    expect(running.ended()).toBeUndefined();
  }, 300_000);

  test("takes the form of the node's cache, which binds the addresses that the main block binds", async () => {
    const [port, metrics] = [await freePort(), await freePort()];
    const text = install(clusterFile(port, metrics, "\n    bind 127.77.2.1 127.77.2.2"), wishFor(binary));
    runCoredns(binary, text);
    for (const ip of ["127.77.2.1", "127.77.2.2"].map((one) => parseIp(one)!)) {
      await eventually(() => answer(port, "httpbin.bar.global", ip)).toBe("240.0.0.2");
      await eventually(() => answer(port, "kubernetes.default.svc.cluster.local", ip)).toBe("10.96.0.1");
    }
    await eventually(() => answer(port, "httpbin.bar.global")).toBe("unreachable");
  }, 300_000);

  test("takes a block that stands in place of another, and a file without braces", async () => {
    const [port, metrics] = [await freePort(), await freePort()];
    const theirs = `${clusterFile(port, metrics)}global:${port} {\n    forward . 127.77.9.9\n}`;
    runCoredns(binary, install(theirs, { ...wishFor(binary), replace: true }));
    await eventually(() => answer(port, "httpbin.bar.global")).toBe("240.0.0.2");
    const bare = await freePort();
    runCoredns(binary, install(`.:${bare}\nhosts {\n10.96.0.1 a.example\n}\n`, wishFor(binary)));
    await eventually(() => answer(bare, "httpbin.bar.global")).toBe("240.0.0.2");
    await eventually(() => answer(bare, "a.example")).toBe("10.96.0.1");
  }, 300_000);

  const wrong = [
    "ready",
    "proxy . 127.0.0.1",
    "any",
    "acl",
    "minimal",
    "view x {\n expr true\n}",
    "timeouts {\n read 5s\n}",
    "multisocket",
  ];
  test.each(wrong)("agrees on whether it knows %j", async (line) => {
    const port = await freePort();
    const text = `.:${port} {\n${line}\n}\n`;
    const problems = refusals({ main: text, importer }, { version: binary.version, defaultPort: 53 });
    const running = runCoredns(binary, text);
    const known = () => running.ended() === undefined && running.output().includes(`.:${port}`);
    await eventually(async () => known() || running.ended() !== undefined).toBe(true);
    const unknown = running.output().includes("Unknown directive");
    // An old binary of the script is linked without some plugins: then it says so, and knows the name all the same.
    expect(unknown, running.output()).toBe(problems.length > 0);
  });

  test("agrees on what cannot be read", async () => {
    for (const text of [". {\n errors", ". {\n errors }\n", "(s) {\n}\n(s) {\n}\n", "a:1053 {\n}\na.:1053 {\n}\n"]) {
      const running = runCoredns(binary, text);
      expect(refusals({ main: text, importer }, { version: binary.version, defaultPort: 53 }), text).toHaveLength(1);
      await eventually(async () => running.ended()).toBeGreaterThan(0);
    }
  }, 300_000);

  test("reads the guide's block of its form", () => {
    const { data } = guideConfigMap({
      form: formOf(binary.version),
      domains: ["global"],
      ips: [mesh],
      clusterDomain: "cluster.local",
    }) as {
      data: { Corefile: string };
    };
    expect(parseCorefile(data.Corefile).ok).toBe(true);
    expect(refusals({ main: data.Corefile, importer }, { version: binary.version, defaultPort: 53 })).toEqual([]);
  });
});
