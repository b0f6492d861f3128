import type { Clock } from "../../../src/base/index.ts";
import { runInContainer } from "./container-process.ts";
import type { ExecPlace } from "./container-run.ts";
import { type ContainerSpec, type Hook, type HttpGet, type ProbeSpec, portNumber } from "./pod-object.ts";
import { ProbeLoop } from "./probe-loop.ts";
import type { ProbeRequest, ProbeResult, Prober } from "./prober.ts";

/** How probes and hooks reach a container. */
export interface Looks {
  readonly spec: ContainerSpec;
  /** The pod's address. */
  readonly ip: () => string;
  /** Undefined while it does not run. */
  readonly exec: () => ExecPlace | undefined;
  readonly prober: Prober;
  readonly clock: Clock;
}

export interface ProbesOptions extends Looks {
  readonly onStarted: () => void;
  readonly onReady: (ready: boolean) => void;
  readonly onUnhealthy: () => void;
  /** A probe failed in a way that it had not failed before. */
  readonly onFailure: (message: string) => void;
}

/** A container's three probes: the first says that it is up, and only then do the others begin. */
export class ContainerProbes {
  readonly #options: ProbesOptions;
  #loops: ProbeLoop[] = [];

  constructor(options: ProbesOptions) {
    this.#options = options;
  }

  start(): void {
    const { startupProbe, readinessProbe, livenessProbe } = this.#options.spec;
    const { onStarted, onReady, onUnhealthy } = this.#options;
    const up = () => {
      onStarted();
      if (livenessProbe) this.#loop("Liveness", livenessProbe, true, (good) => (good ? undefined : onUnhealthy()));
      if (readinessProbe) this.#loop("Readiness", readinessProbe, false, onReady);
      else onReady(true);
    };
    if (!startupProbe) {
      up();
      return;
    }
    const first = this.#loop("Startup", startupProbe, false, (good) => {
      first.stop();
      if (good) up();
      else onUnhealthy();
    });
  }

  stop(): void {
    for (const loop of this.#loops) loop.stop();
    this.#loops = [];
  }

  #loop(kind: string, spec: ProbeSpec, initially: boolean, onTurn: (good: boolean) => void): ProbeLoop {
    let told = "";
    const loop = new ProbeLoop({
      spec,
      initially,
      clock: this.#options.clock,
      check: () => checkProbe(spec, this.#options),
      onTurn,
      onFailure: (message) => {
        if (message === told) return;
        told = message;
        this.#options.onFailure(`${kind} probe failed: ${message}`);
      },
    });
    this.#loops.push(loop);
    return loop;
  }
}

async function checkProbe(probe: ProbeSpec, looks: Looks): Promise<ProbeResult> {
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  if (probe.exec) {
    const exec = looks.exec();
    if (!exec) return { ok: false, message: "the container does not run" };
    const { code, output } = await runInContainer([...exec.line, ...(probe.exec.command ?? [])], exec.env, timeoutMs);
    return { ok: code === 0, message: output };
  }
  const request = probeRequest(probe, looks.spec, looks.ip(), timeoutMs);
  return typeof request === "string" ? { ok: false, message: request } : looks.prober.check(request);
}

/** What is asked of the pod from the machine's side, or why nothing can be. */
export function probeRequest(
  probe: ProbeSpec,
  spec: ContainerSpec,
  ip: string,
  timeoutMs: number,
): ProbeRequest | string {
  if (probe.httpGet) return httpRequest(probe.httpGet, spec, ip, timeoutMs);
  const wanted = probe.tcpSocket?.port ?? probe.grpc?.port;
  const port = wanted === undefined ? undefined : portNumber(wanted, spec);
  if (port === undefined) return `the container has no port "${wanted}"`;
  if (probe.tcpSocket) return { kind: "tcp", host: probe.tcpSocket.host || ip, port, timeoutMs };
  return { kind: "grpc", host: ip, port, service: probe.grpc?.service ?? "", timeoutMs };
}

function httpRequest(get: HttpGet, spec: ContainerSpec, ip: string, timeoutMs: number): ProbeRequest | string {
  const { port: wanted, path = "/", host, scheme = "HTTP", httpHeaders = [] } = get;
  const port = portNumber(wanted, spec);
  if (port === undefined) return `the container has no port "${wanted}"`;
  return {
    kind: "http",
    scheme: scheme === "HTTPS" ? "https" : "http",
    host: host || ip,
    port,
    path: path.startsWith("/") ? path : `/${path}`,
    headers: httpHeaders,
    timeoutMs,
  };
}

/** What went wrong with a hook, or undefined. */
export async function runHook(hook: Hook, looks: Looks, timeoutMs: number): Promise<string | undefined> {
  const exec = looks.exec();
  if (hook.exec && exec) {
    const { code, output } = await runInContainer([...exec.line, ...(hook.exec.command ?? [])], exec.env, timeoutMs);
    return code === 0 ? undefined : `command ended with ${code}: ${output}`;
  }
  if (hook.httpGet) {
    const request = httpRequest(hook.httpGet, looks.spec, looks.ip(), timeoutMs);
    if (typeof request === "string") return request;
    const { ok, message } = await looks.prober.check(request);
    return ok ? undefined : message;
  }
  const { sleep } = hook;
  if (sleep) await new Promise<void>((resolve) => looks.clock.after(sleep.seconds * 1000, resolve));
  return undefined;
}
