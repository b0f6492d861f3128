import { Resolver } from "node:dns/promises";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Failure, Scope } from "../base/index.ts";
import { createRoot } from "../ca/index.ts";
import { startAgent } from "../proxy/index.ts";
import { parseHostname } from "../values/index.ts";
import { agentConfig, ask, prepared } from "./testdata/agent.ts";
import { configOf, depsOf, freePort, loopback, running, service, testScope } from "./testdata/scene.ts";

// A whole agent with its proxy beside a whole control plane, in this process.

const patient = { timeout: 8_000, interval: 50 };

test("an agent without its control plane is up and says why it is not ready, and is ready when that comes", async () => {
  const { at, token, socket } = await prepared();
  const first = await running(at);
  const port = first.ports.secure;
  await first.scope.close();
  await startAgent(agentConfig({ at, port, token, socket }), depsOf(), testScope());
  await expect
    .poll(async () => (await ask(socket, "/ready")).text, patient)
    .toMatch(/no certificate yet: .*ECONNREFUSED/);
  expect((await ask(socket, "/ready")).status).toBe(503);
  await running(at, { secure: { ip: loopback, port } });
  await expect.poll(async () => (await ask(socket, "/ready")).status, patient).toBe(200);
  expect(JSON.parse((await ask(socket, "/clusters")).text).map(({ name }: { name: string }) => name)).toContain(
    "outbound|8000||httpbin.bar.global",
  );
});

test("a first certificate comes by the token; with it the next ones come, also when the token is gone", async () => {
  const { at, token, socket } = await prepared();
  const plane = await running(at, { workloadCertTtlMs: 3_000 });
  await startAgent(agentConfig({ at, port: plane.ports.secure, token, socket }), depsOf(), testScope());
  const certificate = async () =>
    JSON.parse((await ask(socket, "/certs")).text).certificates[0]?.serial as string | undefined;
  await expect.poll(certificate, patient).toBeTruthy();
  rmSync(token);
  const seen = new Set([await certificate()]);
  await expect
    .poll(async () => {
      seen.add(await certificate());
      return seen.size;
    }, patient)
    .toBeGreaterThanOrEqual(3);
  expect(JSON.parse((await ask(socket, "/certs")).text).problem).toBeNull();
});

test("a certificate that ended while the control plane was away is renewed by the token, and discovery goes on", async () => {
  const { at, token, socket } = await prepared();
  const before = await running(at, { workloadCertTtlMs: 2_000 });
  const port = before.ports.secure;
  await startAgent(agentConfig({ at, port, token, socket }), depsOf(), testScope());
  await expect.poll(async () => (await ask(socket, "/ready")).status, patient).toBe(200);
  await before.scope.close();
  const held = async () => JSON.parse((await ask(socket, "/certs")).text).certificates[0];
  const { serial } = await held();
  const left = async () => Date.parse((await held()).notAfter) - Date.now();
  await expect.poll(left, patient).toBeLessThan(-200);
  const after = await running(at, { secure: { ip: loopback, port }, workloadCertTtlMs: 60_000 });
  await expect.poll(async () => (await held()).serial, patient).not.toBe(serial);
  await expect.poll(() => after.ads.connections().length, patient).toBe(1);
  await expect.poll(async () => (await ask(socket, "/ready")).status, patient).toBe(200);
});

test("a control plane of another root is not believed, and the reason is told", async () => {
  const { at, token, socket } = await prepared();
  writeFileSync(join(at.dir, "root-cert.pem"), createRoot({ nowMs: Date.now() })["root-cert.pem"]);
  const plane = await running(at);
  await startAgent(agentConfig({ at, port: plane.ports.secure, token, socket }), depsOf(), testScope());
  await expect
    .poll(async () => (await ask(socket, "/ready")).text, patient)
    .toMatch(/no certificate yet: .*certificate/);
  expect(plane.ads.connections()).toEqual([]);
});

for (const { it, content, says } of [
  { it: "is not there", content: undefined, says: /cannot read .*root-cert\.pem.*ENOENT/ },
  { it: "is no certificate", content: "nothing", says: /root-cert\.pem" is none: / },
]) {
  test(`a root certificate that ${it} is named at once`, async () => {
    const { at, token, socket } = await prepared();
    const file = join(at.dir, "root-cert.pem");
    if (content === undefined) rmSync(file);
    else writeFileSync(file, content);
    const scope = new Scope();
    const caught = await startAgent(agentConfig({ at, port: 1, token, socket }), depsOf(), scope).catch((err) => err);
    await scope.close();
    expect(caught).toBeInstanceOf(Failure);
    expect((caught as Failure).code).toBe("agent/root-cert");
    expect((caught as Failure).message).toMatch(says);
  });
}

test("in a cluster of another domain the workload's resolver answers for its services, and for no others", async () => {
  const { at, token, socket } = await prepared();
  const clusterDomain = parseHostname("example.internal")!;
  writeFileSync(join(at.config, "service.yaml"), service({ name: "httpbin", namespace: "bar", ip: "10.96.0.20" }));
  const mesh = { ...configOf(at).mesh, clusterDomain };
  const { ports } = await running(at, { mesh });
  const listen = { ip: loopback, port: await freePort() };
  const base = agentConfig({ at, port: ports.secure, token, socket });
  const dns = { listen, forwardTo: [], searches: [`foo.svc.${clusterDomain}`, `svc.${clusterDomain}`] };
  await startAgent({ ...base, node: { ...base.node, clusterDomain }, dns }, depsOf(), testScope());
  await expect.poll(async () => (await ask(socket, "/ready")).status, patient).toBe(200);
  const resolver = new Resolver({ timeout: 1_000, tries: 1 });
  resolver.setServers([`127.0.0.1:${listen.port}`]);
  const answer = (name: string) => resolver.resolve4(name).catch(({ code }: NodeJS.ErrnoException) => code);
  expect(await answer(`httpbin.bar.svc.${clusterDomain}`)).toEqual(["10.96.0.20"]);
  expect(await answer(`nobody.bar.svc.${clusterDomain}`)).toBe("ENOTFOUND");
  expect(await answer("nobody.bar.svc.cluster.local")).toBe("EREFUSED");
  // By a search domain, the names of other clusters.
  expect(await answer(`httpbin.bar.global.foo.svc.${clusterDomain}`)).toEqual(["240.0.0.2"]);
});
