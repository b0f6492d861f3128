import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { eventually, isthmus, main, root, run } from "./isthmus.ts";

// The built command as a user meets it: what it says, on which stream, with which exit code.

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), "isthmus-commands-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function file(dir: string, name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

interface Service {
  readonly child: ChildProcess;
  /** Standard error so far: JSON lines. */
  log(): string;
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

function service(args: readonly string[]): Service {
  const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    log += text;
  });
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  return { child, log: () => log, ended };
}

async function text(url: string): Promise<{ readonly status: number; readonly body: string }> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(20_000) });
    return { status: response.status, body: await response.text() };
  } catch (caught) {
    return { status: 0, body: String((caught as Error).cause ?? caught) };
  }
}

const goodEntry = `apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata:
  name: httpbin-bar
  namespace: foo
spec:
  hosts:
  - httpbin.bar.global
  location: MESH_INTERNAL
  ports:
  - name: http1
    number: 8000
    protocol: http
  resolution: STATIC
  addresses:
  - 240.0.0.2
  endpoints:
  - address: 10.1.2.3
    ports:
      http1: 15443
`;
const wrongEntry = goodEntry
  .replace("httpbin.bar.global", "httpbin..global")
  .replace("number: 8000", "number: 70000")
  .replace("STATIC", "STATICC");

describe("help and usage", () => {
  const commands = [
    [],
    ["demo"],
    ["validate"],
    ["ca"],
    ["ca", "root"],
    ["ca", "intermediate"],
    ["controlplane"],
    ["proxy"],
    ["lab"],
    ...["up", "apply", "delete", "exec", "logs", "status", "list", "down"].map((name) => ["lab", name]),
  ];
  for (const command of commands) {
    test(`isthmus ${[...command, "--help"].join(" ")} explains itself on standard output`, async () => {
      const ran = await isthmus([...command, "--help"]);
      expect(ran).toMatchObject({ code: 0, stderr: "" });
      expect(ran.stdout).toContain(`Usage: isthmus ${command.join(" ")}`.trim());
      // Every option and every command below says what it is for.
      for (const line of ran.stdout.split("\n")) expect(line).not.toMatch(/^ {2}(-\w, )?--[\w-]+( <[^>]+>)?$/);
    });
  }

  test("the version is the package's", async () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    expect(await isthmus(["--version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  });

  const rows: ReadonlyArray<{
    readonly it: string;
    readonly args: readonly string[];
    readonly says: readonly string[];
  }> = [
    { it: "nothing at all", args: [], says: ["Usage: isthmus", "demo"] },
    {
      it: "a command that is not there",
      args: ["frobnicate"],
      says: ["unknown command 'frobnicate'", "isthmus --help"],
    },
    { it: "a misspelt command", args: ["valdate"], says: ["unknown command 'valdate'", "Did you mean validate?"] },
    {
      it: "a misspelt command below another",
      args: ["ca", "rot"],
      says: ["unknown command 'rot'", "Did you mean root?"],
    },
    {
      it: "a misspelt option",
      args: ["validate", "--filenam", "x"],
      says: ["unknown option '--filenam'", "Did you mean --filename?"],
    },
    {
      it: "an option that is not there",
      args: ["validate", "-f", "x", "--wat"],
      says: ["unknown option '--wat'", "isthmus validate --help"],
    },
    {
      it: "several options that are missing",
      args: ["controlplane"],
      says: ["--cluster <name>", "--cacerts <dir>", "--listen"],
    },
    {
      it: "a control plane with nothing to read",
      args: ["controlplane", "--cluster", "c1", "--cacerts", "x", "--listen", "127.0.0.1"],
      says: ["there is nothing to read", "--config", "--kubeconfig", "--in-cluster", "usage/source"],
    },
    {
      it: "a control plane that is to read two clusters",
      args: [
        "controlplane",
        "--cluster",
        "c1",
        "--cacerts",
        "x",
        "--listen",
        "127.0.0.1",
        "--in-cluster",
        "--context",
        "y",
      ],
      says: ["--in-cluster", "--context", "usage/source"],
    },
    {
      it: "a choice that is none",
      args: ["ca", "root", "--out", "x", "--key-type", "rsa"],
      says: ["'rsa' is invalid", "rsa-2048", "ec-p256"],
    },
    {
      it: "a number that is none",
      args: ["ca", "root", "--out", "x", "--path-length", "x"],
      says: ["--path-length", "whole number"],
    },
    {
      it: "a duration that is none",
      args: ["ca", "root", "--out", "x", "--valid-for", "10"],
      says: ['--valid-for: "10" is no duration', "24h", "usage/duration"],
    },
    { it: "words too many", args: ["ca", "root", "--out", "x", "y"], says: ["too many arguments"] },
  ];
  for (const { it, args, says } of rows) {
    test(`${it} ends with 64 and says what was meant, on standard error`, async () => {
      const ran = await isthmus(args);
      expect(ran).toMatchObject({ code: 64, stdout: "" });
      for (const part of says) expect(ran.stderr).toContain(part);
      expect(ran.stderr).not.toMatch(/\n\s+at /);
    });
  }
});

describe("validate", () => {
  test("good manifests: 0, and how many", async () => {
    const path = file(folder(), "good.yaml", goodEntry);
    expect(await isthmus(["validate", "-f", path])).toEqual({
      code: 0,
      stdout: "1 good object in 1 file\n",
      stderr: "",
    });
  });

  test("wrong manifests: 1, and each thing at its place with what to write instead", async () => {
    const path = file(folder(), "wrong.yaml", wrongEntry);
    const ran = await isthmus(["validate", "-f", path]);
    expect(ran).toMatchObject({ code: 1, stderr: "" });
    const lines = ran.stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(4);
    for (const line of lines.slice(0, 3))
      expect(line).toMatch(/^.+wrong\.yaml:\d+:\d+: spec\.[\w.[\]]+: .+ \(ISM\d{4}\)$/);
    expect(lines[0]).toContain(`${path}:8:5: spec.hosts[0]: must be a DNS name, got "httpbin..global"`);
    expect(lines[1]).toContain(`${path}:12:13: spec.ports[0].number:`);
    expect(lines[2]).toContain('did you mean "STATIC"?');
    expect(lines[3]).toBe("0 good objects in 1 file, 3 errors");
  });

  test("a folder with the folders in it, several arguments, and standard input", async () => {
    const dir = folder();
    mkdirSync(join(dir, "inner"));
    file(dir, "good.yaml", goodEntry);
    file(join(dir, "inner"), "wrong.yml", wrongEntry);
    file(dir, "notes.txt", "not a manifest");
    const ran = await isthmus(["validate", "-f", dir]);
    expect(ran.code).toBe(1);
    expect(ran.stdout).toContain("inner/wrong.yml:8:5:");
    expect(ran.stdout).toContain("1 good object in 2 files, 3 errors");
    expect(await isthmus(["validate", "-f", "-"], { input: goodEntry })).toMatchObject({ code: 0 });
    const both = await isthmus(["validate", "-f", "-", "-f", join(dir, "good.yaml")], { input: wrongEntry });
    expect(both.code).toBe(1);
    expect(both.stdout).toMatch(/^-:8:5: /);
  });

  test("as JSON for programs", async () => {
    const path = file(folder(), "wrong.yaml", wrongEntry);
    const ran = await isthmus(["validate", "-f", path, "-o", "json"]);
    expect(ran).toMatchObject({ code: 1, stderr: "" });
    const said = JSON.parse(ran.stdout);
    expect(said).toMatchObject({ valid: false, counts: { files: 1, errors: 3 } });
    expect(said.violations[1]).toMatchObject({
      file: path,
      line: 12,
      column: 13,
      path: "spec.ports[0].number",
      severity: "error",
    });
  });

  test("what cannot be read: 2, with what can be said of the rest", async () => {
    const dir = folder();
    mkdirSync(join(dir, "empty"));
    const wrong = file(dir, "wrong.yaml", wrongEntry);
    const ran = await isthmus(["validate", "-f", wrong, join(dir, "nowhere.yaml"), join(dir, "empty")]);
    expect(ran.code).toBe(2);
    expect(ran.stdout).toContain("3 errors");
    expect(ran.stderr).toContain(
      `cannot read "${dir}/nowhere.yaml": there is no such file or folder (file/unreadable)`,
    );
    expect(ran.stderr).toContain(`no manifests in "${dir}/empty"`);
  });

  test("a file that we may not read: 2", async () => {
    const dir = folder();
    chmodSync(dir, 0o755);
    const path = file(dir, "secret.yaml", goodEntry);
    chmodSync(path, 0);
    const ran = await asNobody(["validate", "-f", path]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(/secret\.yaml.*EACCES|secret\.yaml.*permission denied/);
  });

  test("bytes that are no text: 1, in words", async () => {
    const path = join(folder(), "junk.yaml");
    writeFileSync(path, Buffer.from([0xff, 0xfe, 0x00, 0x61, 0x80]));
    const ran = await isthmus(["validate", "-f", path]);
    expect(ran.code).toBe(1);
    expect(ran.stdout).toContain("junk.yaml:1:1: is not UTF-8");
  });

  test("the samples that ship with the package are good", async () => {
    const folders = readdirSync(join(root, "samples")).filter((name) => name !== "demo");
    const ran = await isthmus(["validate", "-f", ...folders.map((name) => join(root, "samples", name))]);
    // A gateway's address is filled in by who applies the sample; some samples take the place of others.
    const wrong = ran.stdout.split("\n").filter((line) => /\(ISM(?!0110|0901)\d+\)$/.test(line));
    expect(wrong).toEqual([]);
  });

  test("a reader that goes away in the middle of the output is no error", async () => {
    const path = file(folder(), "wrong.yaml", Array.from({ length: 500 }, () => wrongEntry).join("---\n"));
    const ran = await run("bash", ["-c", `"$0" "$1" validate -f "$2" | head -1`, process.execPath, main, path]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout.split("\n")).toHaveLength(2);
  });
});

/** Root may read and write everything, so that some refusals only show to others. */
function asNobody(args: readonly string[]) {
  if (process.getuid?.() !== 0) return isthmus(args);
  return run("setpriv", ["--reuid", "65534", "--regid", "65534", "--clear-groups", process.execPath, main, ...args]);
}

const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "pipe", encoding: "utf8" });

describe("ca", () => {
  test("a root and an intermediate, as openssl and the guide see them", async () => {
    const dir = folder();
    const made = await isthmus(["ca", "root", "--out", join(dir, "root")]);
    expect(made).toMatchObject({ code: 0, stderr: "" });
    const ran = await isthmus([
      "ca",
      "intermediate",
      "--root",
      join(dir, "root"),
      "--cluster",
      "cluster1",
      "--out",
      join(dir, "c1"),
    ]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    for (const set of ["root", "c1"]) {
      expect(readdirSync(join(dir, set)).sort()).toEqual([
        "ca-cert.pem",
        "ca-key.pem",
        "cert-chain.pem",
        "root-cert.pem",
      ]);
      expect(statSync(join(dir, set, "ca-key.pem")).mode & 0o077).toBe(0);
    }
    expect(
      openssl("verify", "-x509_strict", "-CAfile", join(dir, "root/ca-cert.pem"), join(dir, "c1/ca-cert.pem")),
    ).toContain("OK");
    const shown = openssl("x509", "-in", join(dir, "c1/ca-cert.pem"), "-noout", "-text");
    expect(shown).toMatch(/CA:TRUE, pathlen:0/);
    expect(shown).toMatch(/prime256v1/);
  });

  test("RSA and a lifetime on request", async () => {
    const dir = folder();
    const rsa = ["--key-type", "rsa-2048", "--valid-for", "48h"];
    expect(await isthmus(["ca", "root", "--out", join(dir, "root"), ...rsa])).toMatchObject({ code: 0 });
    const certificate = new X509Certificate(readFileSync(join(dir, "root/ca-cert.pem")));
    expect(certificate.publicKey.asymmetricKeyType).toBe("rsa");
    const leftMs = Date.parse(certificate.validTo) - Date.now();
    expect(leftMs).toBeGreaterThan(47.9 * 3_600_000);
    expect(leftMs).toBeLessThanOrEqual(48 * 3_600_000);
  });

  test("files that are there are not written over, unless that is said", async () => {
    const out = join(folder(), "root");
    await isthmus(["ca", "root", "--out", out]);
    const key = readFileSync(join(out, "ca-key.pem"), "utf8");
    const again = await isthmus(["ca", "root", "--out", out]);
    expect(again.code).toBe(2);
    expect(again.stderr).toMatch(/root\/ca-cert\.pem" is there already.*--replace.*ca\/cacerts-exists/);
    expect(readFileSync(join(out, "ca-key.pem"), "utf8")).toBe(key);
    expect(await isthmus(["ca", "root", "--out", out, "--replace"])).toMatchObject({ code: 0 });
    expect(readFileSync(join(out, "ca-key.pem"), "utf8")).not.toBe(key);
  });

  test("a folder that holds no root is named, with what is missing in it", async () => {
    const dir = folder();
    const ran = await isthmus([
      "ca",
      "intermediate",
      "--root",
      join(dir, "none"),
      "--cluster",
      "c",
      "--out",
      join(dir, "c1"),
    ]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain(`no ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem in "${dir}/none"`);
    expect(ran.stderr).toContain("isthmus ca root");
    expect(existsSync(join(dir, "c1"))).toBe(false);
  });

  test("an intermediate below an intermediate that allows none is refused", async () => {
    const dir = folder();
    await isthmus(["ca", "root", "--out", join(dir, "root")]);
    await isthmus(["ca", "intermediate", "--root", join(dir, "root"), "--cluster", "c1", "--out", join(dir, "c1")]);
    const ran = await isthmus([
      "ca",
      "intermediate",
      "--root",
      join(dir, "c1"),
      "--cluster",
      "c2",
      "--out",
      join(dir, "c2"),
    ]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(/allows 0 CAs below it.*ca\/cacerts-path-length/);
  });

  test("where we may not write: 2, and nothing is left", async () => {
    const dir = folder();
    chmodSync(dir, 0o755);
    const ran = await asNobody(["ca", "root", "--out", join(dir, "root")]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(/cannot write CA files into ".*root".*ca\/cacerts-write/);
    expect(readdirSync(dir)).toEqual([]);
  });
});

/** A root and an intermediate, made once: the tests below are about what is done with them. */
let authority: Promise<string> | undefined;
afterAll(async () => rmSync((await authority) ?? "/nowhere", { recursive: true, force: true }));

async function authorityIn(dir: string): Promise<void> {
  authority ??= (async () => {
    const made = mkdtempSync(join(tmpdir(), "isthmus-commands-ca-"));
    await isthmus(["ca", "root", "--out", join(made, "root")]);
    const below = ["--root", join(made, "root"), "--cluster", "cluster1"];
    await isthmus(["ca", "intermediate", ...below, "--out", join(made, "cacerts")]);
    return made;
  })();
  cpSync(await authority, dir, { recursive: true });
}

/** What a control plane needs: CA files, a folder with one entry, ports. */
async function plane(dir: string) {
  await authorityIn(dir);
  mkdirSync(join(dir, "config"));
  file(join(dir, "config"), "entry.yaml", goodEntry);
  const [secure, plaintext, dns, admin] = (await freePorts(4)) as [number, number, number, number];
  const args = (changes: Readonly<Record<string, string>> = {}) => {
    const flags: Record<string, string> = {
      "--cluster": "cluster1",
      "--config": join(dir, "config"),
      "--cacerts": join(dir, "cacerts"),
      "--listen": `127.0.0.1:${secure}`,
      "--plaintext": `${plaintext}`,
      "--dns": `127.0.0.1:${dns}`,
      "--admin": `127.0.0.1:${admin}`,
      ...changes,
    };
    return ["controlplane", ...Object.entries(flags).flat()];
  };
  const ready = () => text(`http://127.0.0.1:${admin}/ready`);
  return { args, ports: { secure, plaintext, dns, admin }, ready };
}

describe("controlplane", () => {
  test("serves, drains on SIGTERM, exits 0, and its ports are free", async () => {
    const { args, ports, ready } = await plane(folder());
    const running = service(args());
    await eventually(ready, ({ status }) => status === 200, 60_000);
    expect(JSON.parse((await text(`http://127.0.0.1:${ports.admin}/problems`)).body)).toEqual([]);
    running.child.kill("SIGTERM");
    expect(await running.ended).toEqual({ code: 0, signal: null });
    expect(running.log()).toContain('"event":"stopped"');
    expect((await ready()).status).toBe(0);
  });

  test("starts again after SIGKILL with the same ports and the same admin socket", async () => {
    const dir = folder();
    const { args, ports } = await plane(dir);
    const socket = join(dir, "admin.sock");
    const ready = () => run("curl", ["-s", "-m", "20", "--unix-socket", socket, "http://admin/ready"]);
    const first = service(args({ "--admin": `unix:${socket}` }));
    await eventually(ready, ({ stdout }) => stdout === "ready\n", 60_000);
    first.child.kill("SIGKILL");
    await first.ended;
    expect(existsSync(socket)).toBe(true);
    const second = service(args({ "--admin": `unix:${socket}` }));
    await eventually(ready, ({ stdout }) => stdout === "ready\n", 60_000);
    expect(second.log()).toContain(`"secure":${ports.secure}`);
  });

  test("takes a set of CA files made by openssl", async () => {
    const dir = folder();
    const { args, ready } = await plane(dir);
    const set = join(dir, "openssl");
    mkdirSync(set);
    const at = (name: string) => join(set, name);
    openssl(
      "req",
      "-x509",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-keyout",
      join(dir, "root.key"),
      "-out",
      at("root-cert.pem"),
      "-days",
      "30",
      "-subj",
      "/O=Corp/CN=Corp Root",
    );
    openssl(
      "req",
      "-new",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-keyout",
      at("ca-key.pem"),
      "-out",
      join(dir, "ca.csr"),
      "-subj",
      "/O=Corp/CN=cluster1",
    );
    const extensions = file(
      dir,
      "ca.ext",
      "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n",
    );
    openssl(
      "x509",
      "-req",
      "-in",
      join(dir, "ca.csr"),
      "-CA",
      at("root-cert.pem"),
      "-CAkey",
      join(dir, "root.key"),
      "-CAcreateserial",
      "-days",
      "20",
      "-extfile",
      extensions,
      "-out",
      at("ca-cert.pem"),
    );
    writeFileSync(
      at("cert-chain.pem"),
      readFileSync(at("ca-cert.pem"), "utf8") + readFileSync(at("root-cert.pem"), "utf8"),
    );
    const running = service(args({ "--cacerts": set }));
    await eventually(ready, ({ status }) => status === 200, 60_000).catch((caught) => {
      throw new Error(`${caught}\n${running.log()}`);
    });
  });

  const wrong: ReadonlyArray<{
    readonly it: string;
    readonly flags: (dir: string) => Readonly<Record<string, string>>;
    readonly code: number;
    readonly says: readonly string[];
  }> = [
    {
      it: "an address that is none",
      flags: () => ({ "--listen": "nowhere" }),
      code: 64,
      says: ['--listen: "nowhere"', "IP:PORT"],
    },
    {
      it: "a port that is none",
      flags: () => ({ "--plaintext": "abc" }),
      code: 64,
      says: ['--plaintext: "abc" is no port'],
    },
    { it: "a cluster without a name", flags: () => ({ "--cluster": "" }), code: 64, says: ['--cluster: ""'] },
    {
      it: "a trust domain that is none",
      flags: () => ({ "--trust-domain": "a b" }),
      code: 64,
      says: ["a b", "--trust-domain"],
    },
    { it: "a duration that is none", flags: () => ({ "--drain": "soon" }), code: 64, says: ['--drain: "soon"', "30s"] },
    {
      it: "a log level that is none",
      flags: () => ({ "--log-level": "loud" }),
      code: 64,
      says: ["'loud' is invalid", "debug"],
    },
    {
      it: "a folder of manifests that is not there",
      flags: (dir) => ({ "--config": join(dir, "none") }),
      code: 2,
      says: ["/none", "no such folder"],
    },
    {
      it: "CA files that are not there",
      flags: (dir) => ({ "--cacerts": join(dir, "none") }),
      code: 2,
      says: ["/none/ca-key.pem", "isthmus ca root"],
    },
    {
      it: "keys for tokens that are not there",
      flags: (dir) => ({ "--tokens-jwks": join(dir, "none") }),
      code: 2,
      says: ["/none", "ca/token-keys"],
    },
  ];
  for (const { it, flags, code, says } of wrong) {
    test(`${it}: ${code}, in words, without a stack`, async () => {
      const dir = folder();
      const { args } = await plane(dir);
      const ran = await isthmus(args(flags(dir)), { timeoutMs: 60_000 });
      expect(ran.code).toBe(code);
      for (const part of says) expect(ran.stderr).toContain(part);
      expect(ran.stderr).not.toMatch(/\n\s+at |BUG|TypeError/);
    });
  }

  for (const which of ["secure", "plaintext", "dns", "admin"] as const) {
    test(`a port for ${which} that is taken: 2, and which one`, async () => {
      const { args, ports } = await plane(folder());
      const holder = createServer();
      await new Promise<void>((resolve) => holder.listen(ports[which], "127.0.0.1", resolve));
      onTestFinished(() => void holder.close());
      const ran = await isthmus(args(), { timeoutMs: 60_000 });
      expect(ran.code).toBe(2);
      expect(ran.stderr.trimEnd().split("\n").at(-1)).toMatch(
        new RegExp(`^isthmus: .*127\\.0\\.0\\.1:${ports[which]}.*\\(\\w+/listen`),
      );
    });
  }

  test("goes on when nobody reads its log any more", async () => {
    const { args, ready } = await plane(folder());
    const running = service([...args(), "--log-level", "debug", "--workload-cert-ttl", "2s"]);
    running.child.stderr!.destroy();
    await eventually(ready, ({ status }) => status === 200, 60_000);
    // A line is written each second, when its own certificate is renewed.
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect((await ready()).status).toBe(200);
    running.child.kill("SIGTERM");
    expect(await running.ended).toEqual({ code: 0, signal: null });
  });
});

describe("proxy", () => {
  async function proxy(dir: string, changes: Readonly<Record<string, string>> = {}) {
    const [admin, discovery] = (await freePorts(2)) as [number, number];
    const flags: Record<string, string> = {
      "--node-ip": "127.0.0.1",
      "--pod": "sleep-1",
      "--namespace": "foo",
      "--service-account": "sleep",
      "--cluster": "cluster1",
      "--discovery": `127.0.0.1:${discovery}`,
      "--root-cert": join(dir, "root/root-cert.pem"),
      "--token": join(dir, "token"),
      "--interception": "NONE",
      "--admin-port": `${admin}`,
      ...changes,
    };
    return { args: ["proxy", ...Object.entries(flags).flat()], ready: () => text(`http://127.0.0.1:${admin}/ready`) };
  }

  test("without its token: is up, keeps trying, says so in the log and under /ready, and stops on SIGTERM", async () => {
    const dir = folder();
    await authorityIn(dir);
    const { args, ready } = await proxy(dir);
    const running = service(args);
    const { seen } = await eventually(ready, ({ body }) => body.includes("token"), 60_000);
    expect(seen).toEqual({
      status: 503,
      body: expect.stringMatching(/^no certificate yet: token ".*\/token" cannot be read/),
    });
    await eventually(
      async () => running.log(),
      (log) => log.split("certificate could not be renewed").length > 3,
      60_000,
    );
    running.child.kill("SIGTERM");
    expect(await running.ended).toEqual({ code: 0, signal: null });
  });

  test("without its control plane: is up, keeps trying, and says where to", async () => {
    const dir = folder();
    await authorityIn(dir);
    file(dir, "token", "a.b.c");
    const { args, ready } = await proxy(dir);
    const running = service(args);
    const { seen } = await eventually(
      ready,
      ({ status, body }) => status === 503 && body.includes("ECONNREFUSED"),
      60_000,
    );
    expect(seen.body).toMatch(/^no certificate yet: .*127\.0\.0\.1:\d+.*ECONNREFUSED.*grpc\/unavailable/);
    running.child.kill("SIGTERM");
    expect(await running.ended).toEqual({ code: 0, signal: null });
  });

  const wrong: ReadonlyArray<{
    readonly it: string;
    readonly flags: Readonly<Record<string, string>>;
    readonly code: number;
    readonly says: RegExp;
  }> = [
    {
      it: "a root certificate that is not there",
      flags: { "--root-cert": "/nowhere/root.pem" },
      code: 2,
      says: /root certificate "\/nowhere\/root\.pem".*agent\/root-cert/,
    },
    { it: "an address that is none", flags: { "--node-ip": "here" }, code: 64, says: /--node-ip: "here"/ },
    {
      it: "a control plane that is no address",
      flags: { "--discovery": "foo bar" },
      code: 64,
      says: /--discovery: "foo bar" is not HOST:PORT/,
    },
    {
      it: "a namespace that is none",
      flags: { "--namespace": "A b" },
      code: 64,
      says: /"spiffe:\/\/cluster\.local\/ns\/A b\/sa\/sleep"/,
    },
    { it: "labels that are none", flags: { "--labels": "app" }, code: 64, says: /--labels: "app" is not KEY=VALUE/ },
    { it: "ports that are no JSON", flags: { "--app-ports": "{" }, code: 64, says: /--app-ports: not JSON/ },
  ];
  for (const { it, flags, code, says } of wrong) {
    test(`${it}: ${code}, in words, without a stack`, async () => {
      const dir = folder();
      await authorityIn(dir);
      const ran = await isthmus((await proxy(dir, flags)).args, { timeoutMs: 60_000 });
      expect(ran.code).toBe(code);
      expect(ran.stderr).toMatch(says);
      expect(ran.stderr).not.toMatch(/\n\s+at |BUG|TypeError/);
    });
  }

  test("an admin port that is taken: 2, and which one", async () => {
    const dir = folder();
    await authorityIn(dir);
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void holder.close());
    const port = (holder.address() as { port: number }).port;
    const ran = await isthmus((await proxy(dir, { "--admin-port": `${port}` })).args, { timeoutMs: 60_000 });
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(new RegExp(`127\\.0\\.0\\.1:${port}.*admin/listen`));
  });
});
