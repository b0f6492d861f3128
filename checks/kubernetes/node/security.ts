import type { ContainerSpec, PodSpec } from "./pod-object.ts";

/** What a container may do unless it says otherwise (the default of container runtimes). */
const usual = [
  "chown",
  "dac_override",
  "fowner",
  "fsetid",
  "kill",
  "setgid",
  "setuid",
  "setpcap",
  "net_bind_service",
  "net_raw",
  "sys_chroot",
  "mknod",
  "audit_write",
  "setfcap",
];

export type Privileges =
  | { readonly ok: true; readonly line: readonly string[]; readonly user: number }
  | { readonly ok: false; readonly problem: string };

/** `setpriv` and its arguments in front of a container's command. */
export function privileges(pod: PodSpec, container: ContainerSpec, imageUser: number): Privileges {
  const all = pod.securityContext ?? {};
  const own = container.securityContext ?? {};
  const user = own.runAsUser ?? all.runAsUser ?? imageUser;
  const group = own.runAsGroup ?? all.runAsGroup ?? (user === imageUser ? imageUser : 0);
  if ((own.runAsNonRoot ?? all.runAsNonRoot) && user === 0) {
    const problem =
      own.runAsUser === undefined && all.runAsUser === undefined
        ? `container has runAsNonRoot and image will run as root (pod: "${pod.hostname ?? ""}", container: ${container.name})`
        : "container's runAsUser breaks non-root policy";
    return { ok: false, problem };
  }
  const groups = [...(all.fsGroup === undefined ? [] : [all.fsGroup]), ...(all.supplementalGroups ?? [])];
  const line = [
    "setpriv",
    "--reuid",
    String(user),
    "--regid",
    String(group),
    ...(groups.length > 0 ? ["--groups", groups.join(",")] : ["--clear-groups"]),
  ];
  if (!own.privileged) {
    const granted = capabilities(own.capabilities).map((name) => `+${name}`);
    line.push("--inh-caps", "-all", "--bounding-set", ["-all", ...granted].join(","));
  }
  if (own.allowPrivilegeEscalation === false) line.push("--no-new-privs");
  return { ok: true, line, user };
}

/** The usual ones without what is dropped and with what is added; `ALL` is all of them. */
export function capabilities(
  wish: { readonly add?: readonly string[]; readonly drop?: readonly string[] } = {},
): readonly string[] {
  const plain = (names: readonly string[] = []) => names.map((name) => name.toLowerCase().replace(/^cap_/, ""));
  const drop = plain(wish.drop);
  const add = plain(wish.add);
  if (add.includes("all")) return ["all"];
  const kept = drop.includes("all") ? [] : usual.filter((name) => !drop.includes(name));
  return [...new Set([...kept, ...add])];
}
