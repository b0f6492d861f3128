import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { type Clock, Failure } from "../base/index.ts";
import type { Credentials, ExecCredentials, Material } from "./kubeconfig.ts";

/** What goes with a request, or with the connection under it. */
export interface Proof {
  /** The value of `Authorization`. */
  readonly authorization?: string;
  readonly certificate?: { readonly cert: string; readonly key: string };
}

/** Shows who the caller is, as fresh as it must be. */
export interface ProofSource {
  current(): Promise<Proof>;
  /** The server did not accept the last one: the next is made anew. */
  refused(): void;
}

/** A token's file is read again this often, as client libraries of Kubernetes do. */
const rereadMs = 60_000;
/** A program's answer is asked for again this long before it ends. */
const earlyMs = 30_000;
const execTimeoutMs = 60_000;
const execOutputLimit = 1024 * 1024;

/** `env` is what a program that gives credentials starts with. */
export function proofSource(
  credentials: Credentials,
  { clock, env }: { readonly clock: Clock; readonly env: NodeJS.ProcessEnv },
): ProofSource {
  switch (credentials.kind) {
    case "none":
      return steady({});
    case "token":
      return steady({ authorization: `Bearer ${credentials.token}` });
    case "basic": {
      const pair = Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64");
      return steady({ authorization: `Basic ${pair}` });
    }
    case "certificate":
      return cached(clock, async () => ({
        proof: {
          certificate: { cert: await materialText(credentials.cert), key: await materialText(credentials.key) },
        },
        goodUntil: clock.now() + rereadMs,
      }));
    case "token-file":
      return cached(clock, async () => {
        const token = (await readText(credentials.path)).trim();
        return { proof: { authorization: `Bearer ${token}` }, goodUntil: clock.now() + rereadMs };
      });
    case "exec":
      return cached(clock, () => runExec(credentials, env));
  }
}

export async function materialText(material: Material): Promise<string> {
  return material.kind === "pem" ? material.pem : await readText(material.path);
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new Failure("kube/credentials", `cannot read "${path}": ${(cause as Error).message}`, { cause });
  }
}

function steady(proof: Proof): ProofSource {
  return { current: async () => proof, refused: () => {} };
}

interface Fresh {
  readonly proof: Proof;
  /** Milliseconds since the Unix epoch. */
  readonly goodUntil: number;
}

/** One making at a time; the last good one goes on when making fails and it has not ended. */
function cached(clock: Clock, make: () => Promise<Fresh>): ProofSource {
  let known: Fresh | undefined;
  let making: Promise<Fresh> | undefined;
  return {
    async current() {
      if (known && clock.now() < known.goodUntil) return known.proof;
      making ??= make().finally(() => {
        making = undefined;
      });
      known = await making;
      return known.proof;
    },
    refused() {
      known = undefined;
    },
  };
}

async function runExec(credentials: ExecCredentials, inherited: NodeJS.ProcessEnv): Promise<Fresh> {
  const { command, args, env, apiVersion, installHint } = credentials;
  const info = JSON.stringify({ apiVersion, kind: "ExecCredential", spec: { interactive: false } });
  const printed = await new Promise<string>((resolve, reject) => {
    const options = {
      timeout: execTimeoutMs,
      maxBuffer: execOutputLimit,
      env: { ...inherited, ...env, KUBERNETES_EXEC_INFO: info },
    };
    execFile(command, [...args], options, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      const why = error.code === "ENOENT" ? "there is no such program" : stderr.trim().slice(-500) || error.message;
      reject(
        new Failure("kube/credentials", `"${command}", which gives the credentials, failed: ${why}`, {
          cause: error,
          ...(installHint === undefined ? {} : { hint: installHint }),
        }),
      );
    });
  });
  return execProof(command, printed);
}

/** From what the program printed. No expiry: good until the server refuses it. */
export function execProof(command: string, printed: string): Fresh {
  const refuse = (why: string) => new Failure("kube/credentials", `"${command}" gave no credentials: ${why}`);
  let status: {
    token?: unknown;
    clientCertificateData?: unknown;
    clientKeyData?: unknown;
    expirationTimestamp?: unknown;
  };
  try {
    status = JSON.parse(printed).status ?? {};
  } catch (cause) {
    throw new Failure("kube/credentials", `"${command}" gave no credentials: it did not print JSON`, { cause });
  }
  const ends = typeof status.expirationTimestamp === "string" ? Date.parse(status.expirationTimestamp) : Number.NaN;
  const goodUntil = Number.isNaN(ends) ? Number.POSITIVE_INFINITY : ends - earlyMs;
  const { token, clientCertificateData: cert, clientKeyData: key } = status;
  if (typeof cert === "string" && typeof key === "string") {
    return { proof: { certificate: { cert, key }, ...(typeof token === "string" ? bearer(token) : {}) }, goodUntil };
  }
  if (typeof token !== "string" || token === "") throw refuse("neither a token nor a certificate with a key");
  return { proof: bearer(token), goodUntil };
}

function bearer(token: string): Proof {
  return { authorization: `Bearer ${token}` };
}
