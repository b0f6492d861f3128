import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runInPod } from "../../src/lab/exec.ts";
import type { LabStatus, LabTarget } from "../../src/lab/index.ts";
import { askLab } from "../../src/lab/protocol.ts";
import { stateFolder } from "../../src/lab/state-folder.ts";
import { isthmus, type Ran } from "./isthmus.ts";

/** A lab of this test's own: brought up, changed and taken down by the commands that a user types. */
export interface TestLab {
  readonly name: string;
  readonly dir: string;
  exec(cluster: string, workload: string, ...command: string[]): Promise<Ran>;
  /** For what runs longer than the two minutes after which `exec` ends it. */
  execFor(seconds: number, cluster: string, workload: string, ...command: string[]): Promise<Ran>;
  apply(cluster: string, yaml: string, ...options: string[]): Promise<Ran>;
  delete(cluster: string, ...objects: string[]): Promise<Ran>;
  status(): Promise<LabStatus>;
  command(...args: string[]): Promise<Ran>;
  down(): Promise<void>;
}

/** Brings a lab up; throws with all that it printed when it does not come up. */
export async function upLab(options: {
  readonly name: string;
  readonly folder?: string;
  readonly args?: readonly string[];
  readonly timeoutMs?: number;
}): Promise<TestLab> {
  const name = `${options.name}-${process.pid}`;
  const dir = mkdtempSync(join(tmpdir(), "isthmus-e2e-"));
  const folder = options.folder ? ["-f", options.folder] : [];
  const up = await isthmus(["lab", "up", "--name", name, ...folder, ...(options.args ?? [])], {
    timeoutMs: options.timeoutMs ?? 180_000,
  });
  if (up.code !== 0) {
    await isthmus(["lab", "down", "--name", name]);
    throw new Error(`lab up ended with ${up.code}\n${up.stdout}\n${up.stderr}`);
  }
  return {
    name,
    dir,
    exec: (cluster, workload, ...command) => execIn({ lab: name, cluster, workload }, command, 120),
    execFor: (seconds, cluster, workload, ...command) => execIn({ lab: name, cluster, workload }, command, seconds),
    apply: (cluster, yaml, ...more) =>
      isthmus(["lab", "apply", "--name", name, cluster, "-f", "-", ...more], { input: yaml }),
    delete: (cluster, ...objects) => isthmus(["lab", "delete", "--name", name, cluster, ...objects]),
    status: () => askLab(name, { op: "status" }),
    command: (...args) => isthmus(["lab", args[0]!, "--name", name, ...args.slice(1)]),
    async down() {
      await isthmus(["lab", "down", "--name", name]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** What `lab exec` does, without a program of its own for each call: tests ask again and again until something is so. */
async function execIn(target: LabTarget, command: readonly string[], seconds: number): Promise<Ran> {
  try {
    const place = await askLab(target.lab, { op: "target", ...target });
    const timeoutMs = seconds * 1000;
    return await runInPod({ folder: stateFolder(target.lab), place, command, stdio: "pipe", timeoutMs });
  } catch (caught) {
    return { code: 2, stdout: "", stderr: (caught as Error).message };
  }
}

/** The ServiceEntry of the walkthrough, for any service and gateway. */
export function remoteService(options: {
  readonly host: string;
  readonly gateway: string;
  readonly vip?: string;
  readonly ports?: ReadonlyArray<{ readonly name: string; readonly number: number; readonly protocol: string }>;
  readonly gatewayPort?: number;
  readonly subjectAltNames?: readonly string[];
  readonly namespace?: string;
}): string {
  const ports = options.ports ?? [{ name: "http1", number: 8000, protocol: "http" }];
  return JSON.stringify({
    apiVersion: "networking.istio.io/v1alpha3",
    kind: "ServiceEntry",
    metadata: { name: options.host.split(".").slice(0, 2).join("-"), namespace: options.namespace ?? "foo" },
    spec: {
      hosts: [options.host],
      location: "MESH_INTERNAL",
      resolution: "DNS",
      ports,
      ...(options.vip ? { addresses: [options.vip] } : {}),
      ...(options.subjectAltNames ? { subjectAltNames: options.subjectAltNames } : {}),
      endpoints: [
        {
          address: options.gateway,
          ports: Object.fromEntries(ports.map(({ name }) => [name, options.gatewayPort ?? 15443])),
        },
      ],
    },
  });
}

export function cluster(status: LabStatus, name: string) {
  const found = status.clusters.find((one) => one.name === name);
  if (!found) throw new Error(`no ${name} in ${JSON.stringify(status)}`);
  return found;
}
