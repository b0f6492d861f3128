// Bookinfo's details: GET /details/ID, /health. Environment: PORT (9080), HOST.
import type { Server } from "node:net";
import { portsFrom, serveUntilStopped } from "../serve.ts";
import { isProgram } from "../target.ts";
import { bookinfoServer, json } from "./service.ts";

export function detailsServer(): Server {
  return bookinfoServer((_request, path) => {
    if (path === "/health") return json({ status: "Details is healthy" });
    const id = /^\/details\/(\d+)$/.exec(path)?.[1];
    if (path.startsWith("/details/") && !id) return json({ error: "please provide numeric product id" }, 400);
    if (!id) return json({ error: "not found" }, 404);
    return json({
      id: Number(id),
      author: "William Shakespeare",
      year: 1595,
      type: "paperback",
      pages: 200,
      publisher: "PublisherA",
      language: "English",
      "ISBN-10": "1234567890",
      "ISBN-13": "123-1234567890",
    });
  });
}

if (isProgram(import.meta.url)) {
  const [port] = portsFrom(process.argv[2] ?? process.env["PORT"] ?? "9080");
  void serveUntilStopped("details", [{ server: detailsServer(), port: port! }]);
}
