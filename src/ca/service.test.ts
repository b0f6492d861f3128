import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { create } from "@bufbuild/protobuf";
import { describe, expect, onTestFinished, test } from "vitest";
import { type ClientTlsMaterial, openChannel, startGrpcServer, type TlsMaterial } from "../ads/index.ts";
import { Cell, Failure, Metrics, Scope, silentLogger, systemClock } from "../base/index.ts";
import { IstioCertificateRequestSchema, IstioCertificateService } from "../proto/gen/isthmus/ca/v1/ca_pb.js";
import { scratchDir } from "../testing/index.ts";
import { parseSpiffeId } from "../values/index.ts";
import { Authority } from "./authority.ts";
import { createCallers } from "./callers.ts";
import { decodeCertificates } from "./certificate.ts";
import { certificateClient } from "./client.ts";
import { encodeCsr } from "./csr.ts";
import { makeKeyPair } from "./keys.ts";
import { createIntermediate, createRoot } from "./make-cacerts.ts";
import { checkCacerts } from "./roots.ts";
import { type CsrLimits, certificateService } from "./server.ts";
import { startServerCertificate } from "./server-cert.ts";
import { createTokenVerifier, decodeTokenKeys, jwksOf, makeTokenKey, mintToken, type TokenVerifier } from "./tokens.ts";
import { startWorkloadCerts } from "./workload-certs.ts";

const clock = systemClock;
const identity = parseSpiffeId("spiffe://cluster.local/ns/foo/sa/sleep")!;
const serverIdentity = parseSpiffeId("spiffe://cluster.local/ns/isthmus-system/sa/isthmus")!;
const tokenKey = makeTokenKey("lab");
const nowMs = Date.now();
const root = createRoot({ nowMs });

/** A control plane's CSR service over real TLS on loopback. */
async function scene(limits: CsrLimits = {}, defaultTtlMs = 3_600_000, tokens?: TokenVerifier) {
  const checked = checkCacerts(createIntermediate({ nowMs, issuer: root, cluster: "cluster1" }), {
    nowMs,
    demo: "refused",
  });
  if (!checked.ok) throw new Error("unfit");
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const metrics = new Metrics();
  const authority = new Authority({
    cacerts: new Cell(checked.cacerts),
    clock,
    settings: { trustDomain: "cluster.local", defaultTtlMs },
  });
  const shared = { clock, random: () => 0.5, log: silentLogger, metrics: new Metrics() };
  const own = startServerCertificate(
    { ...shared, authority, identity: serverIdentity, dnsNames: ["isthmus.isthmus-system.svc"], ips: [] },
    scope,
  );
  const material = new Cell<TlsMaterial>(await own.ready());
  own.current.subscribe((next) => next && material.set(next));
  const callers = createCallers({
    trustDomain: "cluster.local",
    clock,
    tokens: tokens ?? createTokenVerifier({ keys: decodeTokenKeys(jwksOf([tokenKey])), clock }),
  });
  const { port } = await startGrpcServer(
    {
      listen: { ip: "127.0.0.1", port: 0 },
      security: { kind: "tls", material, clientCertificate: "optional" },
      services: [certificateService({ authority, callers, clock, log: silentLogger, metrics, limits })],
      log: silentLogger,
    },
    scope,
  );
  const channelWith = (clientMaterial: ClientTlsMaterial) =>
    openChannel(
      {
        target: `127.0.0.1:${port}`,
        security: {
          kind: "tls",
          material: new Cell<ClientTlsMaterial>(clientMaterial),
          expect: { kind: "dns", name: "isthmus.isthmus-system.svc" },
        },
      },
      scope,
    );
  const channel = channelWith({ rootsPem: root["root-cert.pem"] });
  const tokenFile = join(scratchDir(), "token");
  const writeToken = async (ttlMs = 600_000, key = tokenKey) =>
    writeFileSync(
      tokenFile,
      `${await mintToken(key, { namespace: "foo", serviceAccount: "sleep", ttlMs, nowMs: Date.now() })}\n`,
    );
  await writeToken();
  return { scope, channel, channelWith, tokenFile, writeToken, metrics, shared, port, authority };
}

const ask = () => ({ ttlMs: undefined, signal: new AbortController().signal });
const csr = () => encodeCsr(makeKeyPair("ec-p256").privateKey);

describe("the CSR service", () => {
  test("answers leaf, then intermediates one each, then all roots in one", async () => {
    const { channel, tokenFile } = await scene();
    const token = (await import("node:fs")).readFileSync(tokenFile, "utf8").trim();
    const answer = await channel.unary(
      IstioCertificateService.method.createCertificate,
      create(IstioCertificateRequestSchema, { csr: csr(), validityDuration: 60n }),
      { clock, timeoutMs: 5000, metadata: { authorization: `Bearer ${token}` } },
    );
    const titles = answer.certChain.map((pem) => decodeCertificates(pem).map(({ title }) => title));
    expect(titles).toEqual([[identity], ["O=Isthmus, CN=CA of cluster1"], ["O=Isthmus, CN=Root CA"]]);
  });

  test("knows a caller by token first and by the certificate it got then, each for its own identity", async () => {
    const { channel, channelWith, tokenFile, shared, scope } = await scene();
    const certs = startWorkloadCerts(
      { ...shared, fetch: certificateClient({ channel, clock, tokenFile }), expected: identity },
      scope,
    );
    const first = await certs.ready(AbortSignal.timeout(5000));
    expect(first.identity).toBe(identity);
    const again = certificateClient({ channel: channelWith(first), clock });
    const answer = await again(csr(), ask());
    expect(decodeCertificates(answer.certificate)[0]?.names).toEqual([{ kind: "uri", value: identity }]);
  });

  test("gives certificates that Node's TLS believes in both directions", async () => {
    const { channelWith, authority, port } = await scene();
    const keys = makeKeyPair("ec-p256");
    const issued = authority.sign(encodeCsr(keys.privateKey), identity);
    const key = keys.privateKey.export({ format: "pem", type: "pkcs8" }) as string;
    const socket = connect({
      host: "127.0.0.1",
      port,
      ca: issued.roots,
      cert: [issued.certificate, ...issued.intermediates].join(""),
      key,
      servername: "isthmus.isthmus-system.svc",
      ALPNProtocols: ["h2"],
    });
    await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    expect(socket.authorized).toBe(true);
    expect(socket.getPeerCertificate().subjectaltname).toContain(serverIdentity);
    socket.destroy();
    const channel = channelWith({
      certChainPem: issued.certificate + issued.intermediates.join(""),
      privateKeyPem: key,
      rootsPem: issued.roots,
    });
    expect((await certificateClient({ channel, clock })(csr(), ask())).roots).toBe(issued.roots);
  });

  test("tells wrong callers, wrong requests and too many of them apart", async () => {
    const { channel, tokenFile, writeToken, metrics } = await scene({
      burstPerIdentity: 3,
      perSecondPerIdentity: 0.001,
    });
    const withToken = certificateClient({ channel, clock, tokenFile });
    const code = (running: Promise<unknown>) =>
      running.then(
        () => "signed",
        (caught: Failure) => caught.code,
      );
    expect(await code(certificateClient({ channel, clock })(csr(), ask()))).toBe("grpc/unauthenticated");
    await writeToken(600_000, makeTokenKey("lab"));
    expect(await code(withToken(csr(), ask()))).toBe("grpc/unauthenticated");
    await writeToken(-60_000);
    expect(await code(withToken(csr(), ask()))).toBe("grpc/unauthenticated");
    await writeToken();
    expect(await code(withToken("garbage", ask()))).toBe("grpc/invalid-argument");
    expect(await code(withToken("x".repeat(100_000), ask()))).toBe("grpc/invalid-argument");
    expect(await code(withToken(csr(), ask()))).toBe("signed");
    expect(await code(withToken(csr(), ask()))).toBe("grpc/resource-exhausted");
    appendFileSync(tokenFile, "x y");
    expect(await code(withToken(csr(), ask()))).toBe("ca/token-unreadable");
    expect(await metrics.text()).toMatch(
      /outcome="unauthenticated"\} 3\n[\s\S]*outcome="invalid"\} 2\n[\s\S]*outcome="signed"\} 1\n[\s\S]*outcome="limited"\} 1/,
    );
  });

  test("a caller whose token cannot be checked now is told to come again, not that it is nobody", async () => {
    const away = { verify: () => Promise.reject(new Failure("ca/token-review", "the API server is away")) };
    const { channel, tokenFile } = await scene({}, undefined, away);
    await expect(certificateClient({ channel, clock, tokenFile })(csr(), ask())).rejects.toMatchObject({
      code: "grpc/unavailable",
      message: expect.stringContaining("the API server is away"),
    });
  });

  test("lets a herd of 300 through, and the process breathes meanwhile", async () => {
    const { channel, tokenFile } = await scene();
    const fetch = certificateClient({ channel, clock, tokenFile, timeoutMs: 15_000 });
    const requests = Array.from({ length: 300 }, csr);
    // How many answers were there at each turn of the event loop.
    let answered = 0;
    const turns: number[] = [];
    let done = false;
    const breathe = () => {
      turns.push(answered);
      if (!done) setImmediate(breathe);
    };
    setImmediate(breathe);
    const answers = await Promise.all(
      requests.map(async (request) => {
        const answer = await fetch(request, ask());
        answered++;
        return answer;
      }),
    );
    done = true;
    expect(answers).toHaveLength(300);
    // Signed in one go, most of them would be answered between two turns.
    const jumps = turns.map((now, i) => now - (turns[i - 1] ?? 0));
    expect(Math.max(...jumps)).toBeLessThan(100);
  });

  test("gives certificates of seconds that are renewed over it in time", async () => {
    const { channel, tokenFile, shared, scope } = await scene({}, 2000);
    const certs = startWorkloadCerts(
      { ...shared, fetch: certificateClient({ channel, clock, tokenFile }), expected: identity },
      scope,
    );
    const seen = new Set<string>();
    await certs.ready(AbortSignal.timeout(5000));
    await new Promise<void>((resolve) => {
      const stop = certs.current.subscribe((next) => {
        expect(next!.notAfter).toBeGreaterThan(Date.now());
        seen.add(next!.serial);
        if (seen.size < 2) return;
        stop();
        resolve();
      });
    });
    expect(seen.size).toBe(2);
  });
});

describe("a client of the CSR service", () => {
  test("refuses a server that another root has signed", async () => {
    const { channelWith, tokenFile } = await scene();
    const channel = channelWith({ rootsPem: createRoot({ nowMs })["root-cert.pem"] });
    await expect(certificateClient({ channel, clock, tokenFile })(csr(), ask())).rejects.toMatchObject({
      code: "grpc/unavailable",
    });
  });
});
