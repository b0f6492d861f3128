import { type Clock, programFile } from "../base/index.ts";
import type { Container } from "../resources/index.ts";
import type { CommandLine, PodNetwork } from "./network.ts";
import { run } from "./run.ts";
import { targetPort } from "./runtime-objects.ts";

type ProbeSpec = NonNullable<Container["readinessProbe"]>;

/** What a starting node process takes beside the probe itself. */
const startMs = 2_000;

/** A container's own readiness probe: as often as the lab looks until it passes, then as often as it asks for. */
export class ReadinessProbe {
  readonly #container: Container;
  readonly #spec: ProbeSpec;
  #ranAt = Number.NEGATIVE_INFINITY;
  #passed = false;

  constructor(container: Container, spec: ProbeSpec) {
    this.#container = container;
    this.#spec = spec;
  }

  /** Why the container is not ready; undefined when it is. */
  async problem(pod: {
    readonly clock: Clock;
    readonly network: PodNetwork;
    readonly env: Readonly<Record<string, string>>;
    /** Where the application listens for a port that its container declares. */
    readonly appPort: (port: number) => number;
  }): Promise<string | undefined> {
    const now = pod.clock.monotonic();
    if (this.#passed && now - this.#ranAt < this.#spec.periodSeconds * 1000) return undefined;
    this.#ranAt = now;
    const argv = this.#argv(pod.appPort);
    if (argv === undefined) return undefined;
    const line: CommandLine = pod.network.enter(argv, "app", pod.env);
    const timeoutMs = this.#spec.timeoutSeconds * 1000 + startMs;
    const { code, stderr } = await run(line.argv, { env: { ...line.env }, timeoutMs });
    this.#passed = code === 0;
    return code === 0 ? undefined : stderr.trim().slice(0, 200);
  }

  #argv(appPort: (port: number) => number): readonly string[] | undefined {
    const probe = this.#spec;
    const number = (target: number | string) => {
      const port = targetPort(target, { containers: [this.#container] });
      return port === undefined ? 0 : appPort(port);
    };
    if (probe.exec) return probe.exec.command;
    if (probe.httpGet) {
      const { scheme, port, path } = probe.httpGet;
      const url = `${scheme.toLowerCase()}://127.0.0.1:${number(port)}${path.startsWith("/") ? path : `/${path}`}`;
      return probeLine("http", url, probe.timeoutSeconds);
    }
    const port = probe.tcpSocket?.port ?? probe.grpc?.port;
    return port === undefined ? undefined : probeLine("tcp", String(number(port)), probe.timeoutSeconds);
  }
}

/** One look at an application from within its pod. */
function probeLine(kind: "http" | "tcp", target: string, timeoutSeconds: number): readonly string[] {
  return [process.execPath, programFile("lab", "probe-main.js"), kind, target, String(timeoutSeconds * 1000)];
}
