import { type Clock, explain, type Logger, type Timer } from "../../../src/base/index.ts";
import type { KubeClient } from "../../../src/kube/index.ts";
import { must } from "../../../src/lab/run.ts";
import { loadBalancerIp } from "./addresses.ts";
import { serviceRules } from "./service-rules.ts";
import { assignLoadBalancers, type EndpointSliceObject, type ServiceObject, servedPorts } from "./services.ts";

/** Changes within this time become rules together. */
const togetherMs = 30;
const retryMs = 1_000;

export interface ServiceKeeperOptions {
  readonly index: number;
  readonly router: number;
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  /** Addresses of load balancers by `namespace/name`. */
  readonly onLoadBalancers: (all: ReadonlyMap<string, string>) => void;
}

/** Keeps the router's packet filter as Services and EndpointSlices are, and gives load balancers their addresses. */
export class ServiceKeeper {
  readonly services = new Map<string, ServiceObject>();
  readonly slices = new Map<string, EndpointSliceObject>();
  readonly #options: ServiceKeeperOptions;
  #assigned: ReadonlyMap<string, string> = new Map();
  /** Load balancers' addresses that the router has. */
  readonly #held = new Set<string>();
  #rules = "";
  #timer: Timer | undefined;
  #working: Promise<void> = Promise.resolve();
  #first = true;
  #inForce = () => {};
  /** Resolves when rules were in force for the first time. */
  readonly ready = new Promise<void>((resolve) => {
    this.#inForce = resolve;
  });

  constructor(options: ServiceKeeperOptions) {
    this.#options = options;
  }

  changed(delayMs = togetherMs): void {
    this.#timer ??= this.#options.clock.after(delayMs, () => {
      this.#timer = undefined;
      this.#working = this.#working.then(() => this.#update());
    });
  }

  close(): void {
    this.#timer?.cancel();
  }

  async #update(): Promise<void> {
    const { index, clock, log } = this.#options;
    try {
      this.#assign();
      const wanted = new Set(this.#assigned.values());
      const rules = serviceRules({
        index,
        services: servedPorts({
          index,
          services: this.services.values(),
          slices: this.slices.values(),
          loadBalancers: this.#assigned,
        }),
      });
      const lines = [
        ...[...wanted].filter((ip) => !this.#held.has(ip)).map((ip) => `ip addr replace ${ip}/32 dev wan0`),
        ...[...this.#held].filter((ip) => !wanted.has(ip)).map((ip) => `ip addr del ${ip}/32 dev wan0 || true`),
      ];
      if (lines.length > 0) await this.#atRouter(["sh", "-ec", lines.join("\n")]);
      this.#held.clear();
      for (const ip of wanted) this.#held.add(ip);
      if (rules !== this.#rules) await this.#atRouter(["iptables-restore"], rules);
      this.#rules = rules;
      this.#inForce();
      await this.#tell();
    } catch (caught) {
      log.warn({ error: explain(caught) }, "services were not set up");
      clock.after(retryMs, () => this.changed(), { background: true });
    }
  }

  #assign(): void {
    const held = new Map(this.#assigned);
    if (this.#first) {
      this.#first = false;
      for (const [key, { status }] of this.services) {
        const ip = status?.loadBalancer?.ingress?.[0]?.ip;
        if (ip) held.set(key, ip);
      }
    }
    this.#assigned = assignLoadBalancers(this.services.values(), held, (number) =>
      loadBalancerIp(this.#options.index, number),
    );
    this.#options.onLoadBalancers(this.#assigned);
  }

  /** Writes the addresses into the Services that do not say them yet. */
  async #tell(): Promise<void> {
    for (const [key, ip] of this.#assigned) {
      const service = this.services.get(key);
      if (!service || service.status?.loadBalancer?.ingress?.[0]?.ip === ip) continue;
      const [namespace, name] = key.split("/");
      await this.#options.client
        .json({
          method: "PATCH",
          path: `/api/v1/namespaces/${namespace}/services/${name}/status`,
          contentType: "application/merge-patch+json",
          body: { status: { loadBalancer: { ingress: [{ ip, ipMode: "VIP" }] } } },
        })
        .catch((caught) =>
          this.#options.log.warn({ service: key, error: explain(caught) }, "a load balancer's address was not written"),
        );
    }
  }

  #atRouter(argv: readonly string[], input?: string): Promise<string> {
    const line = ["nsenter", "-t", String(this.#options.router), "-n", ...argv];
    return must("packet filter of the router", line, input === undefined ? {} : { input });
  }
}
