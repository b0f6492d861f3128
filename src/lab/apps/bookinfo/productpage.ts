// Bookinfo's front: /, /productpage, /login, /logout, /api/v1/products[/ID[/reviews|/ratings]], /health.
// Environment: PORT (9080), HOST, and where the others are: DETAILS_HOSTNAME, REVIEWS_HOSTNAME, RATINGS_HOSTNAME.
import type { IncomingMessage } from "node:http";
import type { Server } from "node:net";
import { portsFrom, servedBy, serveUntilStopped } from "../serve.ts";
import { isProgram } from "../target.ts";
import { bookinfoServer, get, headersToPass, json, type Reply, readBody, serviceUrl } from "./service.ts";

const product = {
  id: 0,
  title: "The Comedy of Errors",
  descriptionHtml:
    "A comedy by William Shakespeare: two pairs of twins, parted at birth, come to the same town on the same day.",
};

export function productpageServer(): Server {
  return bookinfoServer(async (request, path) => {
    if (path === "/health") return { status: 200, body: "Product page is healthy" };
    if (path === "/" || path === "/index.html") return html(indexPage);
    if (path === "/productpage") return productpage(request);
    if (path === "/login" && request.method === "POST") return login(request);
    if (path === "/logout") return redirectHome("session=; Max-Age=0; Path=/; HttpOnly");
    if (path === "/api/v1/products") return json([product]);
    const api = /^\/api\/v1\/products\/(\d+)(?:\/(reviews|ratings))?$/.exec(path);
    if (!api) return { status: 404, body: "not found" };
    return passThrough(request, api[2] ?? "details", Number(api[1]));
  });
}

/** Who has logged in, by the cookie that the login set. This is a sample: any name will do, and no password is asked. */
export function userOf(request: IncomingMessage): string | undefined {
  const cookie = /(?:^|;\s*)session=([A-Za-z0-9_-]+)/.exec(request.headers.cookie ?? "")?.[1];
  const user = cookie && Buffer.from(cookie, "base64url").toString("utf8");
  // What no header can carry is no user.
  return user && /^[\x20-\x7e]{1,64}$/.test(user) ? user : undefined;
}

async function login(request: IncomingMessage): Promise<Reply> {
  const form = new URLSearchParams(await readBody(request));
  const user = Buffer.from(form.get("username") ?? "").toString("base64url");
  return redirectHome(`session=${user}; Path=/; HttpOnly`);
}

function redirectHome(cookie: string): Reply {
  return { status: 302, headers: { Location: "/productpage", "Set-Cookie": cookie }, body: "" };
}

/** The headers for calls on behalf of `request`: the usual ones, and who has logged in. */
function headersFor(request: IncomingMessage): Record<string, string> {
  const user = userOf(request);
  return { ...headersToPass(request), ...(user ? { "end-user": user } : {}) };
}

async function passThrough(request: IncomingMessage, name: string, id: number): Promise<Reply> {
  const service = name as "details" | "reviews" | "ratings";
  try {
    const answer = await get(serviceUrl(service, `/${service}/${id}`), headersFor(request));
    return { status: answer.status, headers: { "Content-Type": "application/json" }, body: answer.body };
  } catch (error) {
    return json({ error: `Sorry, product ${service} are currently unavailable for this book: ${message(error)}` }, 500);
  }
}

/** What another service said, or why it said nothing. */
type Part = { readonly kind: "said"; readonly value: unknown } | { readonly kind: "silent"; readonly why: string };

async function ask(request: IncomingMessage, name: "details" | "reviews"): Promise<Part> {
  try {
    const answer = await get(serviceUrl(name, `/${name}/${product.id}`), headersFor(request));
    if (answer.status !== 200) return { kind: "silent", why: `status ${answer.status}` };
    return { kind: "said", value: JSON.parse(answer.body) };
  } catch (error) {
    return { kind: "silent", why: message(error) };
  }
}

async function productpage(request: IncomingMessage): Promise<Reply> {
  const [details, reviews] = await Promise.all([ask(request, "details"), ask(request, "reviews")]);
  return html(`<!DOCTYPE html>
<html>
  <head><meta charset="utf-8"><title>Simple Bookstore App</title></head>
  <body>
    <p>${userLine(userOf(request))}</p>
    <h3>${escapeHtml(product.title)}</h3>
    <p>Summary: ${escapeHtml(product.descriptionHtml)}</p>
    <h4>Book Details</h4>
    ${detailsPart(details)}
    <h4>Book Reviews</h4>
    ${reviewsPart(reviews)}
    <p><small>productpage on ${escapeHtml(servedBy)}</small></p>
  </body>
</html>
`);
}

function userLine(user: string | undefined): string {
  if (user) return `User: ${escapeHtml(user)} (<a href="/logout">sign out</a>)`;
  return '<form method="post" action="/login"><input name="username"><input type="password" name="passwd"><button>Sign in</button></form>';
}

function detailsPart(part: Part): string {
  if (part.kind === "silent") return sorry("details", part.why);
  const rows = Object.entries(part.value as object).filter(([name]) => name !== "id");
  return `<dl>${rows.map(([name, value]) => `<dt>${escapeHtml(name)}:</dt><dd>${escapeHtml(String(value))}</dd>`).join("")}</dl>`;
}

interface Review {
  readonly reviewer: string;
  readonly text: string;
  readonly rating?: { readonly stars?: number; readonly color?: string; readonly error?: string };
}

function reviewsPart(part: Part): string {
  if (part.kind === "silent") return sorry("reviews", part.why);
  const {
    reviews = [],
    podname,
    clustername,
  } = part.value as { reviews?: Review[]; podname?: string; clustername?: string };
  const quotes = reviews.map(
    ({ reviewer, text, rating }) =>
      `<blockquote><p>${escapeHtml(text)}</p><small>${escapeHtml(reviewer)}</small> ${stars(rating)}</blockquote>`,
  );
  return `${quotes.join("\n")}\n<p>Reviews served by: ${escapeHtml(podname ?? "")} (${escapeHtml(clustername ?? "")})</p>`;
}

function stars(rating: Review["rating"]): string {
  if (!rating) return "";
  if (rating.stars === undefined) return `<i>${escapeHtml(rating.error ?? "")}</i>`;
  const color = rating.color === "red" ? "red" : "black";
  const shown = Math.min(Math.max(Math.round(rating.stars), 0), 5);
  return `<span style="color: ${color}">${"★".repeat(shown)}${"☆".repeat(5 - shown)}</span>`;
}

function sorry(what: string, why: string): string {
  return `<p><b>Error fetching product ${what}!</b></p><p>Sorry, product ${what} are currently unavailable for this book. (${escapeHtml(why)})</p>`;
}

function html(body: string): Reply {
  return { status: 200, headers: { "Content-Type": "text/html; charset=utf-8" }, body };
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

function message(caught: unknown): string {
  return caught instanceof Error ? caught.message : String(caught);
}

const indexPage = `<!DOCTYPE html>
<html>
  <head><meta charset="utf-8"><title>Simple Bookstore App</title></head>
  <body>
    <h3>Hello! This is a simple bookstore application of four services.</h3>
    <p><a href="/productpage?u=normal">Normal user</a></p>
    <p><a href="/productpage?u=test">Test user</a></p>
  </body>
</html>
`;

if (isProgram(import.meta.url)) {
  const [port] = portsFrom(process.argv[2] ?? process.env["PORT"] ?? "9080");
  void serveUntilStopped("productpage", [{ server: productpageServer(), port: port! }]);
}
