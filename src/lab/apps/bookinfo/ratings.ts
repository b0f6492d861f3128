// Bookinfo's ratings: GET and POST /ratings/ID, /health. Environment: PORT (9080), HOST, and
// SERVICE_VERSION: `v-faulty` fails half of the calls, `v-delayed` takes 7 s for half of them, `v-unavailable` fails all.
import type { Server } from "node:net";
import { portsFrom, serveUntilStopped } from "../serve.ts";
import { isProgram } from "../target.ts";
import { bookinfoServer, json, readBody } from "./service.ts";

/** Ratings that callers have posted are kept for this many products; the oldest goes first. */
const mostProducts = 1000;

export function ratingsServer(version = "v1"): Server {
  const posted = new Map<number, Record<string, number>>();
  return bookinfoServer(async (request, path) => {
    if (path === "/health") return json({ status: "Ratings is healthy" });
    const id = /^\/ratings\/(\d+)$/.exec(path)?.[1];
    if (path.startsWith("/ratings/") && !id) return json({ error: "please provide numeric product ID" }, 400);
    if (!id) return json({ error: "not found" }, 404);
    if (version === "v-unavailable") return json({ error: "Service unavailable" }, 503);
    if (version === "v-faulty" && Math.random() < 0.5) return json({ error: "Service unavailable" }, 503);
    if (version === "v-delayed" && Math.random() < 0.5) await new Promise((resolve) => setTimeout(resolve, 7000));
    if (request.method === "POST") {
      const ratings = readRatings(await readBody(request));
      if (!ratings) return json({ error: "please provide valid ratings JSON" }, 400);
      posted.delete(Number(id));
      posted.set(Number(id), ratings);
      for (const oldest of posted.keys()) {
        if (posted.size <= mostProducts) break;
        posted.delete(oldest);
      }
    }
    return json({ id: Number(id), ratings: posted.get(Number(id)) ?? { Reviewer1: 5, Reviewer2: 4 } });
  });
}

function readRatings(text: string): Record<string, number> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    const entries = Object.entries(value);
    return entries.every(([, stars]) => typeof stars === "number") ? Object.fromEntries(entries) : undefined;
  } catch {
    return undefined;
  }
}

if (isProgram(import.meta.url)) {
  const [port] = portsFrom(process.argv[2] ?? process.env["PORT"] ?? "9080");
  void serveUntilStopped("ratings", [{ server: ratingsServer(process.env["SERVICE_VERSION"]), port: port! }]);
}
