import { Failure } from "../base/index.ts";
import { documents } from "../resources/index.ts";

/** How a client shows who it is. */
export type Credentials =
  | { readonly kind: "none" }
  | { readonly kind: "certificate"; readonly cert: Material; readonly key: Material }
  | { readonly kind: "token"; readonly token: string }
  /** Read anew now and then: what mints such files replaces them before they expire. */
  | { readonly kind: "token-file"; readonly path: string }
  | { readonly kind: "basic"; readonly username: string; readonly password: string }
  | ExecCredentials;

/** A program that prints an `ExecCredential` (client.authentication.k8s.io). */
export interface ExecCredentials {
  readonly kind: "exec";
  readonly apiVersion: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** What to do where the program is not there, in its author's words. */
  readonly installHint: string | undefined;
}

/** PEM, or the file that holds it. */
export type Material =
  | { readonly kind: "pem"; readonly pem: string }
  | { readonly kind: "file"; readonly path: string };

/** One context of a kubeconfig, complete: where the API server is, how it proves itself, and how the caller does. */
export interface KubeAccess {
  /** As messages name it: the context's name, or `in-cluster`. */
  readonly name: string;
  /** As the context calls its cluster. */
  readonly cluster?: string;
  /** Origin and path prefix, without a slash at the end. */
  readonly server: string;
  readonly authority: Material | undefined;
  /** The name to hold the server's certificate against, where it is not the URL's. */
  readonly serverName: string | undefined;
  /** The server's certificate is not looked at. */
  readonly insecure: boolean;
  readonly namespace: string;
  readonly credentials: Credentials;
}

/** A file's text and the folder against which its relative paths stand. */
export interface KubeconfigFile {
  readonly path: string;
  readonly dir: string;
  readonly text: string;
}

/** What a file says, with the folder that its paths belong to. */
interface Entry {
  readonly dir: string;
  readonly value: Record<string, unknown>;
}
interface Merged {
  current: string | undefined;
  readonly contexts: Map<string, Entry>;
  readonly clusters: Map<string, Entry>;
  readonly users: Map<string, Entry>;
}

/**
 * The access that a context stands for. Of several files the first that has a name wins, as `kubectl` merges them.
 * Throws `kube/config` with everything that is wrong, and `kube/context` when there is no such context.
 */
export function readKubeconfig(files: readonly KubeconfigFile[], wanted?: string): KubeAccess {
  const merged = merge(files);
  const where = files.map(({ path }) => `"${path}"`).join(", ");
  const name = wanted ?? merged.current;
  const known = [...merged.contexts.keys()];
  if (name === undefined || name === "") {
    throw new Failure("kube/context", `${where} names no current context`, { hint: `name one of: ${listed(known)}` });
  }
  const context = merged.contexts.get(name);
  if (!context) {
    throw new Failure("kube/context", `there is no context "${name}" in ${where}`, {
      hint: `there are: ${listed(known)}`,
    });
  }
  const wrong: string[] = [];
  const access = accessOf({ name, context, merged, wrong });
  if (wrong.length > 0) {
    throw new Failure("kube/config", `context "${name}" of ${where} cannot be used: ${wrong.join("; ")}`);
  }
  return access;
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? "none" : names.join(", ");
}

function merge(files: readonly KubeconfigFile[]): Merged {
  const merged: Merged = { current: undefined, contexts: new Map(), clusters: new Map(), users: new Map() };
  for (const { path, dir, text } of files) {
    for (const { value, problems } of documents(text)) {
      const [problem] = problems;
      if (problem) throw new Failure("kube/config", `"${path}", line ${problem.line}: ${problem.message}`);
      const config = objectOf(value);
      if (!config) throw new Failure("kube/config", `"${path}" is no kubeconfig: it must be an object`);
      if (typeof config["current-context"] === "string" && config["current-context"] !== "") {
        merged.current ??= config["current-context"];
      }
      take(config["contexts"], "context", dir, merged.contexts);
      take(config["clusters"], "cluster", dir, merged.clusters);
      take(config["users"], "user", dir, merged.users);
    }
  }
  return merged;
}

function take(list: unknown, field: string, dir: string, into: Map<string, Entry>): void {
  if (!Array.isArray(list)) return;
  for (const item of list) {
    const named = objectOf(item);
    const name = named?.["name"];
    if (typeof name === "string" && !into.has(name)) into.set(name, { dir, value: objectOf(named?.[field]) ?? {} });
  }
}

function accessOf(options: {
  readonly name: string;
  readonly context: Entry;
  readonly merged: Merged;
  readonly wrong: string[];
}): KubeAccess {
  const { name, context, merged, wrong } = options;
  const clusterName = textOf(context.value["cluster"]) ?? "";
  const cluster = merged.clusters.get(clusterName);
  if (!cluster) wrong.push(`cluster "${clusterName}" is not defined`);
  const userName = textOf(context.value["user"]) ?? "";
  const user = merged.users.get(userName);
  if (!user && userName !== "") wrong.push(`user "${userName}" is not defined`);
  const serverName = textOf(cluster?.value["tls-server-name"]);
  return {
    name,
    cluster: clusterName,
    server: cluster ? serverOf(cluster, clusterName, wrong) : "",
    authority: cluster && materialOf(cluster, "certificate-authority", wrong),
    serverName,
    insecure: cluster?.value["insecure-skip-tls-verify"] === true,
    namespace: textOf(context.value["namespace"]) ?? "default",
    credentials: user ? credentialsOf(user, userName, wrong) : { kind: "none" },
  };
}

function serverOf({ value }: Entry, cluster: string, wrong: string[]): string {
  const server = textOf(value["server"]) ?? "";
  if (value["proxy-url"] !== undefined) {
    wrong.push(`cluster "${cluster}" asks for a proxy (proxy-url), through which this client does not go`);
  }
  const url = URL.canParse(server) ? new URL(server) : undefined;
  if (!url || (url.protocol !== "https:" && url.protocol !== "http:")) {
    wrong.push(`server "${server}" of cluster "${cluster}" is no http or https URL`);
    return "";
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

/** `<field>-data` in base64, else the file that `<field>` names. */
function materialOf({ value, dir }: Entry, field: string, wrong: string[]): Material | undefined {
  const data = textOf(value[`${field}-data`]);
  if (data !== undefined && data !== "") {
    const pem = Buffer.from(data, "base64").toString("utf8");
    if (!pem.includes("-----BEGIN ")) wrong.push(`${field}-data is not PEM in base64`);
    return { kind: "pem", pem };
  }
  const path = textOf(value[field]);
  return path === undefined || path === "" ? undefined : { kind: "file", path: absolute(path, dir) };
}

function absolute(path: string, dir: string): string {
  return path.startsWith("/") ? path : `${dir}/${path}`;
}

function credentialsOf(user: Entry, name: string, wrong: string[]): Credentials {
  const { value, dir } = user;
  const exec = objectOf(value["exec"]);
  if (exec) return execOf(exec, { name, dir, wrong });
  // A file is asked before a value, because it is the one that is kept fresh.
  const path = textOf(value["tokenFile"]);
  if (path) return { kind: "token-file", path: absolute(path, dir) };
  const token = textOf(value["token"]);
  if (token) return { kind: "token", token };
  const cert = materialOf(user, "client-certificate", wrong);
  const key = materialOf(user, "client-key", wrong);
  if (cert && key) return { kind: "certificate", cert, key };
  if (cert || key)
    wrong.push(`user "${name}" has a client ${cert ? "certificate without a key" : "key without a certificate"}`);
  const username = textOf(value["username"]);
  if (username) return { kind: "basic", username, password: textOf(value["password"]) ?? "" };
  if (value["auth-provider"] !== undefined) {
    wrong.push(`user "${name}" has an auth-provider, which Kubernetes removed in 1.26; use exec`);
  }
  return { kind: "none" };
}

const execVersions = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

function execOf(
  exec: Record<string, unknown>,
  { name, dir, wrong }: { readonly name: string; readonly dir: string; readonly wrong: string[] },
): Credentials {
  const apiVersion = textOf(exec["apiVersion"]) ?? "";
  if (!execVersions.includes(apiVersion)) {
    wrong.push(`exec of user "${name}" speaks "${apiVersion}"; known are ${execVersions.join(" and ")}`);
  }
  const command = textOf(exec["command"]) ?? "";
  if (command === "") wrong.push(`exec of user "${name}" names no command`);
  const env: Record<string, string> = {};
  for (const item of Array.isArray(exec["env"]) ? exec["env"] : []) {
    const pair = objectOf(item);
    if (typeof pair?.["name"] === "string") env[pair["name"]] = textOf(pair["value"]) ?? "";
  }
  return {
    kind: "exec",
    apiVersion,
    // A command with a slash is a file beside the kubeconfig; one without is looked up in PATH.
    command: command.includes("/") ? absolute(command, dir) : command,
    args: (Array.isArray(exec["args"]) ? exec["args"] : []).map(String),
    env,
    installHint: textOf(exec["installHint"]),
  };
}

function objectOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
