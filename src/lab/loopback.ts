import { connect, createServer } from "node:net";
import type { ClusterNetwork, LabNetwork, PodNetwork } from "./network.ts";
import type { ChosenMode } from "./types.ts";

/** The one address that every machine has. */
export const loopback = "127.0.0.1";

/** Pods on loopback: no addresses of their own, so each port of each pod is a port of the machine. */
export function startLoopback(chosen: ChosenMode): LabNetwork {
  const cluster: ClusterNetwork = {
    routerIp: loopback,
    atRouter: (argv) => argv,
    setForwards: async () => {},
    addPod: async () => pod,
  };
  return { chosen, addCluster: async () => cluster };
}

const pod: PodNetwork = {
  ip: loopback,
  wanIp: undefined,
  holder: undefined,
  enter: (argv, _runAs, env) => ({ argv, env }),
  listens: (port) =>
    new Promise((resolve) => {
      const socket = connect({ host: loopback, port, timeout: 1_000 });
      const done = (listens: boolean) => {
        socket.destroy();
        resolve(listens);
      };
      socket.once("connect", () => done(true));
      socket.once("timeout", () => done(false));
      socket.once("error", () => done(false));
    }),
  capture: async () => {},
  close: async () => {},
};

/** Ports of the machine that were free a moment ago; the same name gets the same port again. */
export class LoopbackPorts {
  readonly #known = new Map<string, number>();

  /** Finds a port for each name that has none yet. */
  async reserve(names: readonly string[]): Promise<void> {
    // All are held until all are found, so that none is found twice.
    const held = await Promise.all(
      names
        .filter((name) => !this.#known.has(name))
        .map(
          (name) =>
            new Promise<() => void>((resolve, reject) => {
              const server = createServer();
              server.once("error", reject);
              server.listen(0, loopback, () => {
                const address = server.address();
                if (address !== null && typeof address === "object") this.#known.set(name, address.port);
                resolve(() => server.close());
              });
            }),
        ),
    );
    for (const release of held) release();
  }

  get(name: string): number {
    const port = this.#known.get(name);
    if (port === undefined) throw new Error(`BUG: no port was reserved for "${name}"`);
    return port;
  }
}
