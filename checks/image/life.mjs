// Runs in a container of the image: a control plane, and beside it a proxy (or an agent with its Envoy) that becomes ready by
// what the control plane tells it; then both are ended as a kubelet does. Writes into /tmp alone. node life.mjs proxy|agent
import { execFileSync, spawn } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";

const [dataPlane] = process.argv.slice(2);
const isthmus = "/usr/local/bin/isthmus";
const patienceMs = 60_000;
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

execFileSync(isthmus, ["ca", "root", "--out", "/tmp/root"]);
execFileSync(isthmus, ["ca", "intermediate", "--root", "/tmp/root", "--cluster", "one", "--out", "/tmp/cacerts"]);
const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
writeFileSync("/tmp/jwks.json", JSON.stringify({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "k", alg: "ES256" }] }));
writeFileSync("/tmp/token", token("foo", "sleep"), { mode: 0o600 });
mkdirSync("/tmp/config");
writeFileSync(
  "/tmp/config/entry.yaml",
  `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: entry, namespace: foo }
spec:
  hosts: [entry.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  addresses: [240.0.0.9]
  ports: [{ name: tcp, number: 9000, protocol: TCP }]
  endpoints: [{ address: 192.0.2.1 }]
`,
);

const controlPlane = start("controlplane", [
  ...["--cluster", "one", "--config", "/tmp/config", "--cacerts", "/tmp/cacerts", "--tokens-jwks", "/tmp/jwks.json"],
  ...["--listen", "0.0.0.0:15012", "--plaintext", "off", "--dns", "0.0.0.0:15053", "--health", "0.0.0.0:15014", "--admin", "127.0.0.1:15010"],
]);
await ready(controlPlane, "http://127.0.0.1:15014/ready");
const proxy = start(dataPlane, [
  ...["--node-ip", "127.0.0.1", "--pod", "sleep-1", "--namespace", "foo", "--service-account", "sleep", "--cluster", "one"],
  ...["--discovery", "127.0.0.1:15012", "--root-cert", "/tmp/root/root-cert.pem", "--token", "/tmp/token"],
  ...["--status", "0.0.0.0:15020", "--health", "0.0.0.0:15021", "--state", "/tmp/state", "--concurrency", "1", "--drain", "1s"],
  ...(dataPlane === "agent" ? ["--run-dir", "/tmp/run"] : []),
]);
await ready(proxy, "http://127.0.0.1:15021/healthz/ready");
// Whoever listens on the port for captured connections was told of it by the control plane, and has a certificate.
if (!listens(15001)) fail(`nobody listens on port 15001\n${proxy.said}`);
for (const program of [proxy, controlPlane]) {
  program.child.kill("SIGTERM");
  const outcome = await Promise.race([program.ended, tooLong()]);
  if (outcome !== 0) fail(`${program.name}, told to end: ${outcome}\n${program.said}`);
}
console.log(`controlplane and ${dataPlane} have lived`);

function tooLong() {
  return new Promise((resolve) => setTimeout(() => resolve("still there"), patienceMs).unref());
}

function start(name, options) {
  const child = spawn(isthmus, [name, ...options], { stdio: ["ignore", "pipe", "pipe"] });
  const program = { name, child, said: "", over: undefined };
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (text) => {
      program.said = (program.said + text).slice(-4000);
    });
  program.ended = new Promise((resolve) => {
    child.once("exit", (code, signal) => {
      program.over = signal ?? code;
      resolve(program.over);
    });
  });
  return program;
}

async function ready(program, url) {
  const deadline = Date.now() + patienceMs;
  while (Date.now() < deadline) {
    if (program.over !== undefined) fail(`${program.name} has ended: ${program.over}\n${program.said}`);
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return;
    await wait(100);
  }
  fail(`${program.name} is not ready\n${program.said}`);
}

function listens(port) {
  const listening = new RegExp(`:${port.toString(16).toUpperCase().padStart(4, "0")} \\S+ 0A `);
  return ["/proc/net/tcp", "/proc/net/tcp6"].some((file) => existsSync(file) && listening.test(readFileSync(file, "utf8")));
}

/** What a kubelet would have put there, of a key of our own. */
function token(namespace, serviceAccount) {
  const seconds = Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub: `system:serviceaccount:${namespace}:${serviceAccount}`, aud: "istio-ca", iss: "check", iat: seconds, exp: seconds + 600 };
  const text = `${part({ alg: "ES256", kid: "k", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${sign("sha256", Buffer.from(text), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

function fail(why) {
  console.error(why);
  process.exit(1);
}
