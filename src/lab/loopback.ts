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
  setOuterPorts: async () => {},
  close: async () => {},
};

/** Ports of the machine that were free a moment ago; the same name gets the same port again. */
export class LoopbackPorts {
  readonly #known = new Map<string, number>();

  has(name: string): boolean {
    return this.#known.has(name);
  }

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

/** Where a gateway is really found on loopback, and every way in which manifests may name it. */
export interface LoopbackGateway {
  /** Addresses and names, each with the port that goes with it. */
  readonly known: readonly { readonly address: string; readonly port: number }[];
  readonly port: number;
}

/**
 * A manifest's object for a lab on loopback: endpoints that name a gateway get the port where it listens here. All other
 * objects stay as they are.
 */
export function forLoopback(
  object: Readonly<Record<string, unknown>>,
  gateways: readonly LoopbackGateway[],
): Readonly<Record<string, unknown>> {
  const spec = object["spec"];
  if (object["kind"] !== "ServiceEntry" || !isMapping(spec) || !Array.isArray(spec["endpoints"])) return object;
  const endpoints = spec["endpoints"].map((endpoint: unknown) => {
    if (!isMapping(endpoint) || !isMapping(endpoint["ports"])) return endpoint;
    const gateway = gateways.find(({ known }) => known.some(({ address }) => address === endpoint["address"]));
    if (!gateway) return endpoint;
    const ports = Object.entries(endpoint["ports"]).map(([name, port]) => {
      const meant = gateway.known.some((way) => way.address === endpoint["address"] && way.port === port);
      return [name, meant ? gateway.port : port];
    });
    return { ...endpoint, address: loopback, ports: Object.fromEntries(ports) };
  });
  return { ...object, spec: { ...spec, endpoints } };
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
