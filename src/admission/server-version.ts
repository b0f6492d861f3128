import { Cell, type Clock, Failure, type Logger, type Scope, type Timer } from "../base/index.ts";
import type { KubeClient } from "../kube/index.ts";

export interface ServerVersion {
  readonly major: number;
  readonly minor: number;
}

/** Of the answer to `GET /version`, where providers write "29+" for a minor version of their own. */
export function readServerVersion(answer: unknown): ServerVersion | undefined {
  const { major, minor } = (answer ?? {}) as { readonly major?: unknown; readonly minor?: unknown };
  const numbers = [major, minor].map((text) => Number(/^\d+/.exec(String(text))?.[0] ?? Number.NaN));
  const [first, second] = numbers as [number, number];
  return Number.isNaN(first) || Number.isNaN(second) ? undefined : { major: first, minor: second };
}

/** Whether every kubelet that such a server may have runs init containers that stay (Kubernetes 1.29, KEP-753). */
export function hasNativeSidecars({ major, minor }: ServerVersion): boolean {
  return major > 1 || (major === 1 && minor >= 29);
}

/** Throws as the client does, and `kube/version` for an answer that is none. */
export async function askServerVersion(client: KubeClient, signal?: AbortSignal): Promise<ServerVersion> {
  const answer = await client.json({ path: "/version", ...(signal ? { signal } : {}) });
  const version = readServerVersion(answer);
  if (version) return version;
  throw new Failure("kube/version", `the API server does not say its version: ${JSON.stringify(answer)}`);
}

/** How soon it is asked again: while it is not known, and for news of an upgrade. */
const askMs = { unknown: 5_000, known: 10 * 60_000 };

/** The API server's version, asked at once and from time to time; the last one known stays. */
export function startServerVersion(
  client: KubeClient,
  deps: { readonly clock: Clock; readonly log: Logger },
  scope: Scope,
): Cell<ServerVersion | undefined> {
  const { clock, log } = deps;
  const version = new Cell<ServerVersion | undefined>(undefined);
  let timer: Timer | undefined;
  let said = false;
  const ask = async () => {
    try {
      const now = await askServerVersion(client, scope.signal);
      const before = version.value;
      if (before?.major !== now.major || before.minor !== now.minor) version.set(now);
      said = false;
    } catch (caught) {
      if (!scope.closed && !said) log.warn({ err: Failure.from(caught) }, "the API server's version is not known anew");
      said = true;
    }
    const wait = version.value === undefined ? askMs.unknown : askMs.known;
    if (!scope.closed) timer = clock.after(wait, () => void ask(), { background: true });
  };
  scope.defer(() => timer?.cancel());
  void ask();
  return version;
}
