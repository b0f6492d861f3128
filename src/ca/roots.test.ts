import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Failure, type Logger, Scope, silentLogger, systemClock, until } from "../base/index.ts";
import { scratchDir } from "../testing/index.ts";
import { decodeCertificates } from "./certificate.ts";
import { createIntermediate, createRoot, writeCacerts } from "./make-cacerts.ts";
import { type CacertsFiles, type CacertsName, checkCacerts, demoOrganization, loadCacerts } from "./roots.ts";
import { startCacerts } from "./watch-roots.ts";

const nowMs = Math.floor(Date.now() / 1000) * 1000;
const dayMs = 86_400_000;
const root = createRoot({ nowMs });
const good = createIntermediate({ nowMs, issuer: root, cluster: "cluster1" });
const other = createIntermediate({ nowMs, issuer: createRoot({ nowMs }), cluster: "cluster2" });
const rules = { nowMs, demo: "refused" } as const;
const openssl = (...args: string[]) => execFileSync("openssl", args, { encoding: "utf8", stdio: "pipe" });

function problemsOf(files: Readonly<Record<CacertsName, string | undefined>>, at = rules): string[] {
  const checked = checkCacerts(files, at);
  return checked.ok ? [] : checked.problems.map(({ file, code }) => `${file} ${code}`).sort();
}

describe("a set of CA files", () => {
  test("a root is for 10 years and an intermediate for 5, with path lengths 1 and 0, back-dated a day", () => {
    const [rootCertificate] = decodeCertificates(root["ca-cert.pem"]);
    const [intermediate] = decodeCertificates(good["ca-cert.pem"]);
    expect(rootCertificate).toMatchObject({
      title: "O=Isthmus, CN=Root CA",
      isCa: true,
      pathLength: 1,
      notBefore: nowMs - dayMs,
      notAfter: nowMs + 3650 * dayMs,
    });
    expect(intermediate).toMatchObject({
      title: "O=Isthmus, CN=CA of cluster1",
      isCa: true,
      pathLength: 0,
      notAfter: nowMs + 1825 * dayMs,
    });
    expect(problemsOf(good)).toEqual([]);
    expect(problemsOf(root)).toEqual([]);
  });

  test("an intermediate never outlives its issuer, and what may not have a CA below it gets none", () => {
    const short = createRoot({ nowMs, validForMs: 30 * dayMs });
    expect(
      decodeCertificates(createIntermediate({ nowMs, issuer: short, cluster: "a" })["ca-cert.pem"])[0]?.notAfter,
    ).toBe(nowMs + 30 * dayMs);
    expect(() => createIntermediate({ nowMs, issuer: good, cluster: "b" })).toThrow(/allows 0 CAs below it/);
    expect(() => createIntermediate({ nowMs, issuer: root, cluster: "../b\n" })).toThrow(/cannot be a cluster's name/);
  });

  test("an issuer with a file missing makes nothing, and the file is named", () => {
    const issuer = { ...root, "ca-key.pem": undefined };
    expect(() => createIntermediate({ nowMs, issuer, issuerName: "certs/root", cluster: "a" })).toThrow(
      /certs\/root\/ca-key.pem: is not there/,
    );
  });

  test("a CA two below the root signs with the whole chain", () => {
    const tall = createRoot({ nowMs, pathLength: 2 });
    const region = createIntermediate({ nowMs, issuer: tall, cluster: "region", pathLength: 1 });
    const checked = checkCacerts(createIntermediate({ nowMs, issuer: region, cluster: "zone" }), rules);
    expect(checked.ok && checked.cacerts.intermediates.map(({ title }) => title)).toEqual([
      "O=Isthmus, CN=CA of zone",
      "O=Isthmus, CN=CA of region",
    ]);
  });

  const rows: ReadonlyArray<{
    it: string;
    files: Readonly<Record<CacertsName, string | undefined>>;
    at?: number;
    gets: readonly string[];
  }> = [
    {
      it: "another CA's key",
      files: { ...good, "ca-key.pem": other["ca-key.pem"] },
      gets: ["ca-key.pem ca/cacerts-key-mismatch"],
    },
    {
      it: "another root",
      files: { ...good, "root-cert.pem": other["root-cert.pem"] },
      gets: ["cert-chain.pem ca/cacerts-chain"],
    },
    {
      it: "another CA's chain",
      files: { ...good, "cert-chain.pem": other["cert-chain.pem"] },
      gets: ["cert-chain.pem ca/cacerts-incomplete"],
    },
    {
      it: "an empty chain below a root",
      files: { ...good, "cert-chain.pem": "" },
      gets: ["cert-chain.pem ca/cacerts-incomplete"],
    },
    {
      it: "no chain file",
      files: { ...good, "cert-chain.pem": undefined },
      gets: ["cert-chain.pem ca/cacerts-missing"],
    },
    {
      it: "no key and no root",
      files: { ...good, "ca-key.pem": undefined, "root-cert.pem": undefined },
      gets: ["ca-key.pem ca/cacerts-missing", "root-cert.pem ca/cacerts-missing"],
    },
    {
      it: "garbage everywhere",
      files: { "ca-cert.pem": "x", "ca-key.pem": "x", "root-cert.pem": "x", "cert-chain.pem": "x" },
      gets: [
        "ca-cert.pem ca/cacerts-malformed",
        "ca-key.pem ca/cacerts-malformed",
        "cert-chain.pem ca/cacerts-malformed",
        "root-cert.pem ca/cacerts-malformed",
      ],
    },
    {
      it: "key and certificate the wrong way round",
      files: { ...good, "ca-key.pem": good["ca-cert.pem"], "ca-cert.pem": good["ca-key.pem"] },
      gets: ["ca-cert.pem ca/cacerts-malformed", "ca-key.pem ca/cacerts-malformed"],
    },
    { it: "six years later", files: good, at: nowMs + 6 * 365 * dayMs, gets: ["ca-cert.pem ca/cacerts-expired"] },
    {
      it: "eleven years later",
      files: good,
      at: nowMs + 11 * 365 * dayMs,
      gets: ["ca-cert.pem ca/cacerts-expired", "root-cert.pem ca/cacerts-expired"],
    },
    {
      it: "two days before",
      files: good,
      at: nowMs - 2 * dayMs,
      gets: ["ca-cert.pem ca/cacerts-not-yet-valid", "root-cert.pem ca/cacerts-not-yet-valid"],
    },
    {
      it: "a wrong key and six years later",
      files: { ...good, "ca-key.pem": other["ca-key.pem"] },
      at: nowMs + 6 * 365 * dayMs,
      gets: ["ca-cert.pem ca/cacerts-expired", "ca-key.pem ca/cacerts-key-mismatch"],
    },
    {
      it: "an intermediate as root",
      files: { ...good, "root-cert.pem": good["ca-cert.pem"] },
      gets: ["root-cert.pem ca/cacerts-not-a-root"],
    },
  ];
  for (const { it, files, at, gets } of rows) {
    test(`with ${it}: all of it is said`, () =>
      expect(problemsOf(files, { ...rules, nowMs: at ?? nowMs })).toEqual(gets));
  }

  test("a demo's own certificates are refused outside a demo", () => {
    const demo = createIntermediate({
      nowMs,
      issuer: createRoot({ nowMs, organization: demoOrganization }),
      cluster: "cluster1",
    });
    expect(problemsOf(demo)).toEqual(["root-cert.pem ca/cacerts-demo"]);
    const checked = checkCacerts(demo, { nowMs, demo: "allowed" });
    expect(checked.ok && checked.cacerts.demo).toBe(true);
  });

  test("two roots, of which the old one has ended, are fine", () => {
    const ended = createRoot({ nowMs: nowMs - 20 * dayMs, validForMs: dayMs });
    const checked = checkCacerts({ ...good, "root-cert.pem": ended["root-cert.pem"] + good["root-cert.pem"] }, rules);
    expect(checked.ok && checked.cacerts.trust.roots).toHaveLength(2);
  });

  test("no dump of a set shows its key", () => {
    const checked = checkCacerts(good, rules);
    const body = good["ca-key.pem"].split("\n")[1]!;
    expect(JSON.stringify(checked)).not.toContain(body);
    expect(JSON.stringify(checked)).toContain('"privateKey":"…"');
  });

  test("one file is never written over another key, and the key is its owner's alone", () => {
    const dir = join(scratchDir(), "new/certs");
    writeCacerts(dir, good);
    expect(statSync(join(dir, "ca-key.pem")).mode & 0o777).toBe(0o600);
    expect(() => writeCacerts(dir, other)).toThrow(/is there already, and stays as it is/);
    expect(readFileSync(join(dir, "ca-key.pem"), "utf8")).toBe(good["ca-key.pem"]);
    writeCacerts(dir, other, { replace: true });
    expect(readFileSync(join(dir, "ca-key.pem"), "utf8")).toBe(other["ca-key.pem"]);
    expect(statSync(join(dir, "ca-key.pem")).mode & 0o777).toBe(0o600);
  });

  test("a failure names the files with their folder", async () => {
    const dir = scratchDir();
    writeCacerts(dir, { ...good, "ca-key.pem": other["ca-key.pem"], "root-cert.pem": "" });
    const failure = await loadCacerts(dir, rules).catch((caught: unknown) => caught);
    expect(failure).toBeInstanceOf(Failure);
    expect((failure as Failure).code).toBe("ca/cacerts-invalid");
    expect((failure as Failure).message).toContain(`${join(dir, "ca-key.pem")}: is not the key of`);
    expect((failure as Failure).message).toContain(`${join(dir, "root-cert.pem")}: no certificate in it`);
  });
});

describe("a set made by openssl", () => {
  const forms = [
    { it: "RSA with PKCS#1 keys", algorithm: ["-newkey", "rsa:2048"], convert: ["rsa", "-traditional"] },
    { it: "RSA with PKCS#8 keys", algorithm: ["-newkey", "rsa:2048"], convert: undefined },
    {
      it: "P-256 with SEC1 keys",
      algorithm: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
      convert: ["ec"],
    },
    {
      it: "P-384 with PKCS#8 keys",
      algorithm: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
      convert: undefined,
    },
  ];
  for (const { it, algorithm, convert } of forms) {
    test(`of ${it} is loaded`, { timeout: 30_000 }, async () => {
      const dir = opensslSet(algorithm);
      const key = join(dir, "ca-key.pem");
      if (convert) writeFileSync(key, openssl(...convert, "-in", key));
      if (convert) expect(readFileSync(key, "utf8")).toMatch(/BEGIN (RSA|EC) PRIVATE KEY/);
      const cacerts = await loadCacerts(dir, { nowMs: Date.now(), demo: "refused" });
      expect(cacerts.certificate.title).toContain("CN=intermediate");
    });
  }

  test("with a passphrase on its key is refused, saying so", async () => {
    const dir = opensslSet(["-newkey", "rsa:2048"]);
    const key = join(dir, "ca-key.pem");
    writeFileSync(key, openssl("pkcs8", "-topk8", "-v2", "aes-128-cbc", "-passout", "pass:x", "-in", key));
    await expect(loadCacerts(dir, { nowMs: Date.now(), demo: "refused" })).rejects.toThrow(
      /ca-key.pem: is under a passphrase/,
    );
  });

  test("without the CA flag, or with a key usage that forbids signing, is refused, naming both", async () => {
    const dir = opensslSet(
      ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
      "basicConstraints=critical,CA:false\nkeyUsage=digitalSignature",
    );
    await expect(loadCacerts(dir, { nowMs: Date.now(), demo: "refused" })).rejects.toThrow(
      /no CA's certificate[\s\S]*may not sign certificates/,
    );
  });

  test("below a root that allows no CA is refused for its path length", async () => {
    const dir = opensslSet(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], undefined, "0");
    await expect(loadCacerts(dir, { nowMs: Date.now(), demo: "refused" })).rejects.toMatchObject({
      code: "ca/cacerts-path-length",
    });
  });

  test("with a file that may not be read is refused, naming it", async () => {
    const dir = scratchDir();
    mkdirSync(join(dir, "ca-cert.pem"));
    await expect(loadCacerts(dir, rules)).rejects.toThrow(/"[^"]*ca-cert.pem" cannot be read/);
  });
});

function opensslSet(
  algorithm: readonly string[],
  extensions = "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid",
  rootLength?: string,
): string {
  const dir = scratchDir();
  chmodSync(dir, 0o700);
  const at = (name: string) => join(dir, name);
  const rootBasic = `basicConstraints=critical,CA:true${rootLength === undefined ? "" : `,pathlen:${rootLength}`}`;
  writeFileSync(
    at("root.cnf"),
    `[req]\ndistinguished_name=dn\nx509_extensions=v3\n[dn]\n[v3]\n${rootBasic}\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n`,
  );
  openssl(
    "req",
    "-x509",
    "-nodes",
    ...algorithm,
    "-config",
    at("root.cnf"),
    "-keyout",
    at("root-key.pem"),
    "-out",
    at("root-cert.pem"),
    "-subj",
    "/O=x/CN=root",
    "-days",
    "10",
  );
  openssl(
    "req",
    "-new",
    "-nodes",
    ...algorithm,
    "-keyout",
    at("ca-key.pem"),
    "-out",
    at("csr.pem"),
    "-subj",
    "/O=x/CN=intermediate",
  );
  writeFileSync(at("ext.cnf"), extensions);
  openssl(
    "x509",
    "-req",
    "-in",
    at("csr.pem"),
    "-CA",
    at("root-cert.pem"),
    "-CAkey",
    at("root-key.pem"),
    "-CAcreateserial",
    "-extfile",
    at("ext.cnf"),
    "-out",
    at("ca-cert.pem"),
    "-days",
    "5",
  );
  writeFileSync(at("cert-chain.pem"), readFileSync(at("ca-cert.pem")));
  return dir;
}

describe("a folder of CA files", () => {
  const write = (dir: string, files: CacertsFiles) => writeCacerts(dir, files, { replace: true });

  test("takes a good new set, keeps the last one over a bad one, and says so once", async () => {
    const dir = scratchDir();
    write(dir, good);
    const warned: string[] = [];
    const log: Logger = { ...silentLogger, warn: (_fields, event) => warned.push(event), child: () => log };
    const scope = new Scope();
    try {
      const source = await startCacerts({ dir, clock: systemClock, log, demo: "refused" }, scope);
      const first = source.current.value;
      writeFileSync(join(dir, "ca-key.pem"), other["ca-key.pem"]);
      await until(source.problem, (problem) => problem !== undefined, AbortSignal.timeout(5000));
      expect(source.problem.value?.code).toBe("ca/cacerts-key-mismatch");
      expect(source.current.value).toBe(first);
      write(dir, other);
      await until(source.current, (set) => set !== first, AbortSignal.timeout(5000));
      expect(source.current.value.certificate.title).toBe("O=Isthmus, CN=CA of cluster2");
      expect(source.problem.value).toBeUndefined();
      expect(warned).toEqual(["new CA files refused, the last good ones stay in force"]);
    } finally {
      await scope.close();
    }
  });

  test("that is unfit at the start is refused", async () => {
    const scope = new Scope();
    await expect(
      startCacerts({ dir: scratchDir(), clock: systemClock, log: silentLogger, demo: "refused" }, scope),
    ).rejects.toMatchObject({ code: "ca/cacerts-missing" });
    await scope.close();
  });
});
