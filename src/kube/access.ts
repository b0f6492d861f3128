import { readFile } from "node:fs/promises";
import { delimiter, dirname, join, resolve } from "node:path";
import { Failure } from "../base/index.ts";
import { type KubeAccess, type KubeconfigFile, readKubeconfig } from "./kubeconfig.ts";

/** Where Kubernetes puts a pod's own account. */
export const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";

export type AccessWish =
  /** Files as in `KUBECONFIG`: several with a colon between them; those that are not there are passed over. */
  | { readonly kind: "kubeconfig"; readonly files: string; readonly context?: string }
  /** From within a pod: its service account. */
  | { readonly kind: "in-cluster"; readonly host: string; readonly port: string; readonly folder?: string };

/** Reads what a client needs to reach an API server. Throws a `Failure` that names the file, and what is wrong in it. */
export async function loadAccess(wish: AccessWish): Promise<KubeAccess> {
  return wish.kind === "kubeconfig" ? await fromFiles(wish.files, wish.context) : await fromPod(wish);
}

async function fromFiles(list: string, context: string | undefined): Promise<KubeAccess> {
  const paths = list.split(delimiter).filter((path) => path !== "");
  const files: KubeconfigFile[] = [];
  for (const path of paths) {
    const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === "ENOENT" && paths.length > 1) return undefined;
      throw unreadable(path, cause);
    });
    if (text !== undefined) files.push({ path, dir: dirname(resolve(path)), text });
  }
  if (files.length === 0) {
    throw new Failure(
      "kube/config",
      `no kubeconfig is there: ${paths.map((path) => `"${path}"`).join(", ") || "none named"}`,
      {
        hint: "name one with --kubeconfig, or in KUBECONFIG",
      },
    );
  }
  return readKubeconfig(files, context);
}

async function fromPod({
  host,
  port,
  folder = accountFolder,
}: Extract<AccessWish, { kind: "in-cluster" }>): Promise<KubeAccess> {
  if (host === "" || port === "") {
    throw new Failure("kube/not-in-cluster", "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set", {
      hint: "this is no pod: name a kubeconfig",
    });
  }
  const path = join(folder, "namespace");
  const namespace = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw unreadable(path, cause);
  });
  return {
    name: "in-cluster",
    server: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
    authority: { kind: "file", path: join(folder, "ca.crt") },
    serverName: undefined,
    insecure: false,
    namespace: namespace.trim(),
    credentials: { kind: "token-file", path: join(folder, "token") },
  };
}

function unreadable(path: string, cause: NodeJS.ErrnoException): Failure {
  const why = cause.code === "ENOENT" ? "there is no such file" : cause.message;
  return new Failure("kube/config", `cannot read "${path}": ${why}`, { cause });
}
