import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Service } from "../resources/index.ts";
import type { ClusterParts } from "./cluster-parts.ts";
import type { Forwards } from "./network.ts";
import {
  Addresses,
  endpointSlices,
  podObject,
  podsBehind,
  type RunningPod,
  serviceObject,
  targetPort,
} from "./runtime-objects.ts";
import { writeAtomic } from "./write-atomic.ts";

/** What Kubernetes would add to the user's objects: written for the control plane, and set in the cluster's network. */
export class RuntimeState {
  readonly #parts: Pick<ClusterParts, "mode" | "network">;
  readonly #folder: string;
  readonly #addresses = new Addresses();
  readonly #written = new Map<string, string>();
  #forwarded = "";
  /** Ports at the outside addresses of gateways, by pod. */
  readonly #opened = new Map<string, string>();

  constructor(parts: Pick<ClusterParts, "mode" | "network" | "folder">) {
    this.#parts = parts;
    this.#folder = join(parts.folder, "runtime");
    mkdirSync(this.#folder, { recursive: true });
  }

  /** What an API server would show beside the user's objects: defaulted Services, Pods, EndpointSlices. */
  write(services: readonly Service[], pods: readonly RunningPod[]): void {
    this.#write(
      "services",
      services.map((service) => serviceObject(service, pods, this.#addresses)),
    );
    this.#write("pods", pods.filter(({ terminating }) => !terminating).map(podObject));
    this.#write(
      "endpoints",
      services.flatMap((service) => endpointSlices(service, pods)),
    );
  }

  #write(name: string, objects: readonly object[]): void {
    const text = `${objects.map((object) => JSON.stringify(object)).join("\n---\n")}\n`;
    if (this.#written.get(name) === text) return;
    this.#written.set(name, text);
    writeAtomic(join(this.#folder, `${name}.yaml`), text);
  }

  /** Node ports and cluster addresses, for callers without a proxy. */
  async setForwards(services: readonly Service[], pods: readonly RunningPod[]): Promise<void> {
    if (this.#parts.mode === "explicit") return;
    const serving = pods.filter(({ ready, terminating }) => ready && !terminating);
    for (const pod of serving.filter(({ wanIp }) => wanIp !== undefined)) await this.#openOutside(services, pod);
    const wanted = this.#forwards(services, serving);
    const text = JSON.stringify(wanted);
    if (text === this.#forwarded) return;
    await this.#parts.network.setForwards(wanted);
    this.#forwarded = text;
  }

  /** What a load balancer in front of a gateway would do: from the ports of its Services to those of the pod. */
  async #openOutside(all: readonly Service[], pod: RunningPod): Promise<void> {
    const ports = all
      .filter((service) => podsBehind(service, [pod]).length > 0)
      .flatMap(({ spec }) =>
        spec.ports.flatMap(({ port, targetPort: target }) => {
          const to = targetPort(target ?? port, pod);
          return to === undefined || to === port ? [] : [{ port, to }];
        }),
      );
    const text = JSON.stringify(ports);
    const key = `${pod.namespace}/${pod.name}`;
    if (this.#opened.get(key) === text) return;
    await pod.setOuterPorts(ports);
    this.#opened.set(key, text);
  }

  #forwards(all: readonly Service[], pods: readonly RunningPod[]): Forwards {
    const nodePorts: Forwards["nodePorts"][number][] = [];
    const services: Forwards["services"][number][] = [];
    for (const service of all) {
      const object = serviceObject(service, pods, this.#addresses);
      for (const port of object.spec.ports) {
        const to = podsBehind(service, pods).flatMap((pod) => {
          const number = targetPort(port.targetPort ?? port.port, pod);
          return number === undefined ? [] : [`${pod.ip}:${number}`];
        });
        const first = to[0];
        if (first === undefined || port.protocol === "SCTP") continue;
        if (port.nodePort !== undefined && port.protocol === "TCP") nodePorts.push({ port: port.nodePort, to: first });
        const ip = object.spec.clusterIP;
        if (ip && ip !== "None")
          services.push({ ip, port: port.port, protocol: port.protocol === "UDP" ? "udp" : "tcp", to });
      }
    }
    return { nodePorts, services };
  }
}
