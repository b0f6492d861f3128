import { createServer } from "node:http";
import { type AddressInfo, createServer as createTcp } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { type AdminRoutes, Scope } from "../../base/index.ts";
import type { Ip } from "../../values/index.ts";
import type { AppProber } from "./app-probers.ts";
import type { NodeFacts } from "./node.ts";
import { startPodServers } from "./pod-server.ts";

const node = { ip: "127.0.0.1" as Ip, interception: "NONE" } as NodeFacts;
const routes: AdminRoutes = {
  "GET /healthz/ready": () => ({ status: 503, text: "not yet\n" }),
  "GET /stats/prometheus": () => ({ text: "a 1\n" }),
  "GET /config_dump": () => ({ text: "secret\n" }),
  "POST /quit": () => ({ text: "" }),
};

/** A port of nobody. */
async function freePort(): Promise<number> {
  const server = createTcp();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => void server.close(() => resolve()));
  return port;
}

test("who asks from outside the pod is told of readiness, metrics and the application, and of nothing else", async () => {
  const app = createServer((request, response) => response.writeHead(request.url === "/ready" ? 200 : 404).end());
  await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve));
  const scope = new Scope();
  onTestFinished(async () => {
    app.close();
    await scope.close();
  });
  const [status, health] = [await freePort(), await freePort()];
  const prober: AppProber = {
    by: "http",
    port: (app.address() as AddressInfo).port,
    path: "/ready",
    secure: false,
    headers: [],
    timeoutMs: 5_000,
  };
  const servers = {
    status: { host: "127.0.0.1", port: status },
    health: { host: "127.0.0.1", port: health },
    probers: new Map([["/app-health/web/readyz", prober]]),
  };
  await startPodServers(servers, { routes, node }, scope);
  const codes = async (port: number, method = "GET") => {
    const paths = [
      "/healthz/ready",
      "/stats/prometheus",
      "/app-health/web/readyz",
      "/app-health/web/livez",
      "/config_dump",
      "/quit",
    ];
    return await Promise.all(
      paths.map(async (path) => (await fetch(`http://127.0.0.1:${port}${path}`, { method })).status),
    );
  };
  expect(await codes(status)).toEqual([503, 200, 200, 404, 404, 404]);
  expect(await codes(health)).toEqual([503, 404, 404, 404, 404, 404]);
  expect(await codes(status, "POST")).toEqual([404, 404, 404, 404, 404, 404]);
});

test("nothing is served that was not asked for", async () => {
  const scope = new Scope();
  await startPodServers(undefined, { routes, node }, scope);
  await startPodServers({}, { routes, node }, scope);
  await scope.close();
});
