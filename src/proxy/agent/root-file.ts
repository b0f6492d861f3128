import { readFile } from "node:fs/promises";
import { Cell, type Clock, Failure, type Logger, type Scope, type Timer } from "../../base/index.ts";
import { decodeTrustBundle, type TrustBundle } from "../../ca/index.ts";

/** How soon a root that was written over the old one counts. Mounted files change by renames, which no watch tells of surely. */
const lookMs = 5_000;

/**
 * The mesh's root from its file, and what is written there later. A file that is gone or broken is said once and changes
 * nothing. Throws when there is none at the start.
 */
export async function startRootFile(
  file: string,
  deps: { readonly clock: Clock; readonly log: Logger },
  scope: Scope,
): Promise<Cell<TrustBundle>> {
  const { clock, log } = deps;
  const roots = new Cell(await readRoots(file));
  let timer: Timer | undefined;
  let said: string | undefined;
  const look = async () => {
    try {
      const now = await readRoots(file);
      if (now.pem !== roots.value.pem && !scope.closed) {
        log.info({ file, roots: now.roots.map(({ title }) => title) }, "the mesh's root was changed");
        roots.set(now);
      }
      said = undefined;
    } catch (caught) {
      const failure = Failure.from(caught);
      if (failure.message !== said) log.warn({ err: failure }, "going on with the root that was read last");
      said = failure.message;
    }
    plan();
  };
  const plan = () => {
    if (!scope.closed) timer = clock.after(lookMs, () => void look(), { background: true });
  };
  scope.defer(() => timer?.cancel());
  plan();
  return roots;
}

async function readRoots(file: string): Promise<TrustBundle> {
  const where = `the mesh's root certificate "${file}"`;
  const pem = await readFile(file, "utf8").catch((cause: Error) => {
    throw new Failure("agent/root-cert", `cannot read ${where}: ${cause.message}`, {
      cause,
      hint: "it is the root-cert.pem of the control plane's CA files",
    });
  });
  try {
    return decodeTrustBundle(pem);
  } catch (cause) {
    throw new Failure("agent/root-cert", `${where} is none: ${Failure.from(cause).message}`, {
      cause,
      hint: "it is the root-cert.pem of the control plane's CA files",
    });
  }
}
