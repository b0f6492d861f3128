// Bookinfo's reviews: GET /reviews/ID, /health. Environment: PORT (9080), HOST, SERVICE_VERSION (v1 no stars, v2 black
// ones, v3 red ones), or ENABLE_RATINGS and STAR_COLOR by themselves; CLUSTER_NAME.
import type { IncomingMessage } from "node:http";
import type { Server } from "node:net";
import { portsFrom, servedBy, serveUntilStopped } from "../serve.ts";
import { isProgram } from "../target.ts";
import { bookinfoServer, get, headersToPass, json, serviceUrl } from "./service.ts";

export interface ReviewsSettings {
  readonly ratings: boolean;
  readonly starColor: string;
}

export function reviewsSettings(env: NodeJS.ProcessEnv): ReviewsSettings {
  const version = env["SERVICE_VERSION"] ?? "v1";
  const enabled = env["ENABLE_RATINGS"];
  return {
    ratings: enabled === undefined ? version === "v2" || version === "v3" : enabled === "true",
    starColor: env["STAR_COLOR"] ?? (version === "v3" ? "red" : "black"),
  };
}

const reviews = [
  { reviewer: "Reviewer1", text: "Everyone mistakes everyone for someone else, and I laughed from start to end." },
  { reviewer: "Reviewer2", text: "Good fun throughout, although the twins could have compared notes a little sooner." },
];

export function reviewsServer(settings: ReviewsSettings): Server {
  return bookinfoServer(async (request, path) => {
    if (path === "/health") return json({ status: "Reviews is healthy" });
    const id = /^\/reviews\/(\d+)$/.exec(path)?.[1];
    if (!id) return json({ error: "not found" }, 404);
    const stars = settings.ratings ? await starsOf(id, request) : undefined;
    return json({
      id,
      podname: servedBy,
      clustername: process.env["CLUSTER_NAME"] ?? "null",
      reviews: reviews.map((review) =>
        settings.ratings ? { ...review, rating: rating(stars, review.reviewer) } : review,
      ),
    });

    function rating(byReviewer: Record<string, number> | undefined, reviewer: string): object {
      const given = byReviewer?.[reviewer];
      if (given === undefined) return { error: "Ratings service is currently unavailable" };
      return { stars: given, color: settings.starColor };
    }
  });
}

/** Undefined when ratings cannot be had: the reviews are shown without. */
async function starsOf(id: string, request: IncomingMessage): Promise<Record<string, number> | undefined> {
  try {
    const answer = await get(serviceUrl("ratings", `/ratings/${id}`), headersToPass(request));
    if (answer.status !== 200) throw new Error(`status ${answer.status}`);
    return (JSON.parse(answer.body) as { ratings: Record<string, number> }).ratings;
  } catch (error) {
    console.error(`reviews: ratings: ${(error as Error).message}`);
    return undefined;
  }
}

if (isProgram(import.meta.url)) {
  const [port] = portsFrom(process.argv[2] ?? process.env["PORT"] ?? "9080");
  void serveUntilStopped("reviews", [{ server: reviewsServer(reviewsSettings(process.env)), port: port! }]);
}
