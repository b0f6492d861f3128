import { afterAll, beforeAll, expect, test } from "vitest";
import { type Mesh, readUntil, startMesh, tunnel } from "./testing/mesh.ts";

let mesh: Mesh;
beforeAll(async () => {
  mesh = await startMesh();
});
afterAll(() => mesh?.close());
test("works", async () => {
  const socket = await tunnel(mesh, "echo.bar.svc.cluster.local", 8000);
  socket.write("GET /probe HTTP/1.1\r\nHost: echo.bar.svc.cluster.local\r\nx-probe: probe-end\r\n\r\n");
  console.log(await readUntil(socket, "probe-end"));
  console.log(mesh.victim.access, mesh.victim.log, mesh.victim.descriptors(), await mesh.victim.memory());
});
