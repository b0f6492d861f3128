import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { explain } from "../../../src/base/index.ts";
import { containerScript, isthmusProgram, packageMounts } from "./container-root.ts";
import type { ContainerHost } from "./container-run.ts";
import { containerEnvironment } from "./environment.ts";
import { commandLine, findImage } from "./images.ts";
import type { ContainerSpec } from "./pod-object.ts";
import { privileges } from "./security.ts";
import { expandVariables } from "./variables.ts";

/** A start that came to nothing, as the status says it. */
export interface StartProblem {
  readonly reason: string;
  readonly message: string;
}

/** All that a container's process is started with. */
export interface Prepared {
  readonly script: string;
  readonly env: Readonly<Record<string, string>>;
  /** In front of every command in the container. */
  readonly privileges: readonly string[];
}

/** Where a container looks for programs. */
const imagePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Makes a container's folder ready, and the script that becomes its command; or says what is wrong or not there yet. */
export function prepareStart(spec: ContainerSpec, host: ContainerHost): Prepared | StartProblem {
  const { parts, place, volumes } = host;
  const pod = host.pod();
  const image = findImage(spec, pod, parts.cluster, parts.table);
  if (image.kind === "unknown") {
    const message = `Container image "${spec.image}" is not present with pull policy of Never: ${image.message}`;
    return { reason: "ErrImageNeverPull", message };
  }
  const wrong = (message: string) => ({ reason: "CreateContainerConfigError", message });
  const may = privileges(pod.spec, spec, image.user);
  if (!may.ok) return wrong(may.problem);
  const environment = containerEnvironment({
    pod,
    container: spec,
    image: { PATH: imagePath, HOME: may.user === 0 ? "/root" : "/", ...image.env },
    source: parts.values(pod.metadata.namespace),
    place: { podIp: place().ip, hostIp: parts.hostIp, node: parts.nodeName },
  });
  if (!environment.ok) return wrong(environment.problem);
  const command = commandLine(image, spec, (text) => expandVariables(text, environment.values));
  if (command.length === 0) {
    return { reason: "CreateContainerError", message: `no command specified for image "${spec.image}"` };
  }
  const folder = join(place().folder, "containers", spec.name);
  rmSync(folder, { recursive: true, force: true });
  for (const name of ["upper", "work", "root"]) mkdirSync(join(folder, name), { recursive: true, mode: 0o755 });
  if (image.isthmus) {
    const bin = join(folder, "upper/usr/local/bin");
    mkdirSync(bin, { recursive: true, mode: 0o755 });
    writeFileSync(join(bin, "isthmus"), isthmusProgram);
    chmodSync(join(bin, "isthmus"), 0o755);
  }
  try {
    const mounts = [
      ...place().mounts,
      ...packageMounts(parts.root, process.execPath),
      ...Object.entries(image.files).map(
        ([target, source]) => ({ source, target, kind: "file", readOnly: true }) as const,
      ),
      ...volumes().mounts(pod, spec, environment.values),
    ];
    const script = containerScript({
      folder,
      mounts,
      readOnlyRoot: spec.securityContext?.readOnlyRootFilesystem === true,
      workingDir: spec.workingDir ?? "/",
      command: [...may.line, ...command],
    });
    return { script, env: Object.fromEntries(environment.values), privileges: may.line };
  } catch (caught) {
    return wrong(`failed to prepare mounts: ${explain(caught)}`);
  }
}
