import { nodeInContainer, packageInContainer } from "./images.ts";

export interface Mount {
  /** On the machine. */
  readonly source: string;
  /** In the container; symbolic links in it are the container's. */
  readonly target: string;
  readonly kind: "folder" | "file";
  readonly readOnly: boolean;
}

/**
 * The shell script that makes a container's file system, in a mount namespace of its own, and becomes its command: the
 * machine's files under a layer that takes what the container writes, and on them what it mounts. Nothing that it does is
 * seen outside.
 */
export function containerScript(options: {
  /** A folder of the container's own, with `upper`, `work` and `root` in it. */
  readonly folder: string;
  readonly mounts: readonly Mount[];
  readonly readOnlyRoot: boolean;
  readonly workingDir: string;
  readonly command: readonly string[];
}): string {
  const { folder, mounts, readOnlyRoot, workingDir, command } = options;
  const at = (path: string) => quote(`${folder}/${path}`);
  return [
    "set -e",
    `mount -t overlay overlay -o lowerdir=/,upperdir=${at("upper")},workdir=${at("work")} ${at("root")}`,
    `cd ${at("root")}`,
    "mkdir .machine",
    "pivot_root . .machine",
    "cd /",
    ...["proc", "sys", "dev"].map((name) => `mount -n --rbind /.machine/${name} /${name}`),
    ...mounts.flatMap(mountLines),
    `mkdir -p ${quote(workingDir)}`,
    "umount -n -l /.machine",
    "rmdir /.machine",
    ...(readOnlyRoot ? ["mount -n -o remount,ro /"] : []),
    `cd ${quote(workingDir)}`,
    // Whoever started it may enter from here on.
    "echo began >&3",
    `exec 3>&- ${command.map(quote).join(" ")}`,
  ].join("\n");
}

function mountLines({ source, target, kind, readOnly }: Mount): readonly string[] {
  const to = quote(target);
  const place = kind === "folder" ? `mkdir -p ${to}` : `mkdir -p "$(dirname ${to})"; [ -e ${to} ] || : > ${to}`;
  return [
    place,
    `mount -n --bind ${quote(`/.machine${source}`)} ${to}`,
    ...(readOnly ? [`mount -n -o remount,bind,ro ${to}`] : []),
  ];
}

/** What every container has of this package and of the machine's programs. */
export function packageMounts(root: string, node: string): readonly Mount[] {
  const mount = (source: string, target: string, kind: Mount["kind"]): Mount => ({
    source,
    target,
    kind,
    readOnly: true,
  });
  return [
    mount(node, nodeInContainer, "file"),
    mount(`${root}/dist`, `${packageInContainer}/dist`, "folder"),
    mount(`${root}/node_modules`, `${packageInContainer}/node_modules`, "folder"),
    mount(`${root}/package.json`, `${packageInContainer}/package.json`, "file"),
  ];
}

/** What the command `isthmus` is where an image has it. */
export const isthmusProgram = `#!/bin/sh\nexec ${nodeInContainer} ${packageInContainer}/dist/cli/main.js "$@"\n`;

export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
