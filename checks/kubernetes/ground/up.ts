// Throwaway control planes on this machine's loopback, for trying things by hand: up.mjs says how it is called.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Context, type ControlPlane, findMachinery, kubeconfigText, startControlPlane } from "./index.ts";

const { values } = parseArgs({
  options: {
    clusters: { type: "string", default: "1" },
    kubeconfig: { type: "string" },
    "no-controllers": { type: "boolean", default: false },
  },
});

const prefix = "isthmus-ground-";
sweep();
const folder = mkdtempSync(join(tmpdir(), `${prefix}${process.pid}-`));
const planes: ControlPlane[] = [];
const contexts: Context[] = [];
let ending = false;
async function end(code: number): Promise<void> {
  if (ending) return;
  ending = true;
  await Promise.all(planes.map((plane) => plane.stop()));
  rmSync(folder, { recursive: true, force: true });
  process.exit(code);
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void end(0));

const machinery = findMachinery(process.env);
if ("missing" in machinery) {
  console.error(`there is no ${machinery.missing.join(", ")}; scripts/install-kubernetes.sh builds them`);
  await end(1);
} else {
  try {
    for (let index = 1; index <= Number(values.clusters); index++) {
      const [port, client, peer] = await freePorts(3);
      const name = `cluster${index}`;
      const plane = await startControlPlane({
        name,
        machinery,
        folder: mkdtempSync(join(folder, `${name}-`)),
        place: { enter: [], listen: "127.0.0.1", port: port!, advertise: "192.0.2.1", etcdPorts: [client!, peer!] },
        controllers: !values["no-controllers"],
        scheduler: false,
      });
      planes.push(plane);
      contexts.push(plane.contextAt(`https://127.0.0.1:${port}`));
    }
    const kubeconfig = values.kubeconfig ?? join(folder, "kubeconfig");
    writeFileSync(kubeconfig, kubeconfigText(contexts), { mode: 0o600 });
    console.log(`export KUBECONFIG=${kubeconfig}`);
    console.error(`contexts: ${planes.map(({ name }) => name).join(", ")}; logs: ${folder}; Ctrl-C ends it`);
    setInterval(() => {}, 1 << 30);
  } catch (caught) {
    console.error(caught);
    await end(1);
  }
}

/** Ports that nobody has now; all are held until all are known. */
async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, () => {
      const server = createServer();
      return new Promise<typeof server>((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Folders of those that were killed. */
function sweep(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(prefix) ? Number.parseInt(name.slice(prefix.length), 10) : Number.NaN;
    if (Number.isNaN(pid)) continue;
    try {
      process.kill(pid, 0);
    } catch {
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
    }
  }
}
