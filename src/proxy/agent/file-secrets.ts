import { readFile } from "node:fs/promises";
import { Cell, type Clock, type Logger, type Scope, type Timer } from "../../base/index.ts";
import { certificateSecret, problemOf, type Secret, type Secrets, trustSecret } from "../config/secret.ts";

/** How soon a file that was written anew counts. Mounted files change by renames, which no watch tells of surely. */
const lookMs = 1_000;
/** A file above this is no certificate, and is not read into memory again and again. */
const longest = 4 * 1_048_576;
/** Where a machine keeps the roots that it believes, whatever it runs. */
const systemRoots: readonly string[] = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

/** Certificates, keys and roots from files of this machine, by the names that configuration gives them. */
export interface FileSecrets {
  /** What could be read last; a file that went or broke leaves its last good content in use. */
  readonly current: Cell<Secrets>;
  /** Of these names, which are looked at from here on. Resolves when each was looked at once. */
  want(names: Iterable<string>): Promise<void>;
}

/**
 * Reads the files that configuration names, `file-cert:CERTIFICATE~KEY` and `file-root:ROOTS` (perhaps `~CRL`; `system` is
 * the machine's own), and reads them again all the while. What is wrong with one is said once.
 */
export function startFileSecrets(deps: { readonly clock: Clock; readonly log: Logger }, scope: Scope): FileSecrets {
  const { clock, log } = deps;
  const current = new Cell<Secrets>(new Map());
  const said = new Map<string, string>();
  let wanted: ReadonlySet<string> = new Set();
  let timer: Timer | undefined;

  async function look(name: string): Promise<void> {
    const read = await readNamed(name);
    if (scope.closed || !wanted.has(name)) return;
    const before = current.value.get(name);
    if (typeof read !== "string") {
      said.delete(name);
      if (before && JSON.stringify(texts(before)) === JSON.stringify(texts(read))) return;
      log.info({ name }, before ? "certificate files changed" : "certificate files read");
      current.set(new Map([...current.value, [name, read]]));
      return;
    }
    if (said.get(name) === read) return;
    said.set(name, read);
    log.warn(
      { name, reason: read },
      before ? "certificate files not taken, the last good ones stay" : "no certificate",
    );
  }

  const plan = () => {
    if (scope.closed || wanted.size === 0 || timer) return;
    timer = clock.after(
      lookMs,
      () => {
        timer = undefined;
        void Promise.all([...wanted].map(look)).then(plan);
      },
      { background: true },
    );
  };
  scope.defer(() => timer?.cancel());
  return {
    current,
    async want(names) {
      const before = wanted;
      wanted = new Set([...names].filter(isFileSecret));
      const letGo = [...before].filter((name) => !wanted.has(name));
      for (const name of letGo) said.delete(name);
      if (letGo.some((name) => current.value.has(name)))
        current.set(new Map([...current.value].filter(([name]) => wanted.has(name))));
      await Promise.all([...wanted].filter((name) => !before.has(name)).map(look));
      plan();
    },
  };
}

export const isFileSecret = (name: string) => name.startsWith("file-cert:") || name.startsWith("file-root:");

const texts = (secret: Secret) =>
  secret.kind === "certificate" ? [secret.chain, secret.key] : [secret.roots, secret.crl];

/** A secret, or why there is none, without a word of what the files hold. */
async function readNamed(name: string): Promise<Secret | string> {
  const [first = "", second] = name.slice(name.indexOf(":") + 1).split("~");
  try {
    const secret = name.startsWith("file-cert:")
      ? certificateSecret(await text(first), await text(second ?? ""))
      : trustSecret(await rootsText(first), second === undefined ? undefined : await text(second));
    return problemOf(secret) ?? secret;
  } catch (caught) {
    const { code } = caught as { code?: string };
    return code === undefined ? (caught as Error).message : `cannot read the files: ${(caught as Error).message}`;
  }
}

async function text(file: string): Promise<string> {
  const content = await readFile(file, "utf8");
  if (content.length > longest) throw new Error(`"${file}" is longer than ${longest} characters`);
  return content;
}

async function rootsText(file: string): Promise<string> {
  if (file !== "system") return text(file);
  for (const candidate of systemRoots) {
    try {
      return await text(candidate);
    } catch {
      // The next place may have them.
    }
  }
  throw new Error(`this machine has no roots: none of ${systemRoots.join(", ")} can be read`);
}

/** Several sources of secrets as one; of one name the first counts. */
export function allSecrets(sources: readonly Cell<Secrets>[], scope: Scope): Cell<Secrets> {
  const together = () => new Map(sources.toReversed().flatMap((one) => [...one.value]));
  const all = new Cell<Secrets>(together());
  for (const one of sources) scope.defer(one.subscribe(() => all.set(together())));
  return all;
}
