import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import { applyPatch, mergePatch, placeOf } from "./kube-writes.ts";

interface Stored {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly resourceVersion: string };
  readonly [field: string]: unknown;
}

interface Watcher {
  readonly path: string;
  readonly matches: (stored: Stored) => boolean;
  readonly response: ServerResponse;
}

/** A write as it came. `body` is what was sent. */
export interface FakeWrite {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly contentType: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/**
 * The part of an API server that readers and small writers need: lists in pages, watches with bookmarks, history that
 * can be compacted; objects created, replaced, patched and deleted. It can be told to fail, so that what a caller makes
 * of failures can be seen.
 */
export interface FakeKubeApi {
  readonly url: string;
  /** Every request so far: `GET /api/v1/services?limit=500`. */
  readonly requests: readonly string[];
  /** Every request so far that was to change something, refused ones too. */
  readonly writes: readonly FakeWrite[];
  /** Answers creations in a collection otherwise: with a status and a body, or as ever when it gives nothing. */
  answerPosts(
    path: string,
    answer: (body: Readonly<Record<string, unknown>>, query: URLSearchParams) => [number, object] | undefined,
  ): void;
  /** The object of a collection as it is now. */
  get(path: string, name: string): Readonly<Record<string, unknown>> | undefined;
  /** Serves a collection, such as `/api/v1/services`, from now on. */
  serve(path: string): void;
  /** Serves it no longer. */
  forget(path: string): void;
  put(path: string, object: { readonly metadata: object; readonly [field: string]: unknown }): void;
  remove(path: string, name: string): void;
  /** Tells watchers the version and nothing else. */
  bookmark(): void;
  /** Versions up to now are forgotten: a watch or a next page from before them gets 410. */
  compact(): void;
  /** Ends all watches, politely or by cutting the connection. */
  endWatches(how: "closed" | "cut"): void;
  /** Writes a line to all watches as it is. */
  say(line: string): void;
  /** The next requests are answered with these statuses; 0 lets one pass. */
  failNext(...statuses: number[]): void;
  /** Answers requests for this collection with a status, until told otherwise. */
  refuse(path: string, status: number | undefined): void;
  /** Answers nobody, as a server that is away: connections are cut. */
  away(is: boolean): void;
  watching(path: string): number;
}

export async function fakeKubeApi(options: { readonly token?: string } = {}): Promise<FakeKubeApi> {
  const collections = new Map<string, Map<string, Stored>>();
  const history: Array<{ readonly version: number; readonly path: string; readonly event: object }> = [];
  const watchers = new Set<Watcher>();
  const requests: string[] = [];
  const writes: FakeWrite[] = [];
  const posts = new Map<string, Parameters<FakeKubeApi["answerPosts"]>[1]>();
  const failures: number[] = [];
  let version = 1;
  let compacted = 0;
  const refused = new Map<string, number>();
  let isAway = false;

  const json = (response: ServerResponse, code: number, body: object) => {
    response.writeHead(code, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  };
  const status = (response: ServerResponse, code: number, message: string) =>
    json(response, code, { kind: "Status", apiVersion: "v1", status: "Failure", code, message });
  const nameOf = ({ metadata: { name, namespace } }: Stored) =>
    namespace === undefined ? name : `${namespace}/${name}`;
  const record = (path: string, event: { readonly type: string; readonly object: Stored }) => {
    history.push({ version, path, event });
    for (const watcher of watchers)
      if (watcher.path === path && watcher.matches(event.object)) watcher.response.write(`${JSON.stringify(event)}\n`);
  };
  const store = (path: string, object: object): Stored => {
    const { metadata } = object as Stored;
    const stored = { ...object, metadata: { ...metadata, resourceVersion: String(++version) } } as Stored;
    const collection = collections.get(path)!;
    const type = collection.has(nameOf(stored)) ? "MODIFIED" : "ADDED";
    collection.set(nameOf(stored), stored);
    record(path, { type, object: stored });
    return stored;
  };
  const discard = (path: string, name: string): Stored | undefined => {
    const stored = collections.get(path)?.get(name);
    if (!stored) return undefined;
    collections.get(path)!.delete(name);
    const metadata = { ...stored.metadata, resourceVersion: String(++version) };
    record(path, { type: "DELETED", object: { ...stored, metadata } });
    return stored;
  };

  function list(path: string, matches: Watcher["matches"], query: URLSearchParams, response: ServerResponse): void {
    const all = [...collections.get(path)!.values()].filter(matches).sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
    const limit = Number(query.get("limit") ?? 0) || all.length;
    const [at = 0, of = version] = (query.get("continue") ?? "").split(":").map(Number).filter(Number.isFinite);
    const begun = query.has("continue") ? of : version;
    if (begun < compacted) {
      status(response, 410, "The provided continue parameter is too old");
      return;
    }
    const from = query.has("continue") ? at : 0;
    const items = all.slice(from, from + limit);
    const more = from + limit < all.length ? { continue: `${from + limit}:${begun}` } : {};
    response.writeHead(200, { "content-type": "application/json" });
    response.end(
      JSON.stringify({ kind: "List", apiVersion: "v1", metadata: { resourceVersion: String(begun), ...more }, items }),
    );
  }

  function watch(path: string, matches: Watcher["matches"], query: URLSearchParams, response: ServerResponse): void {
    const from = Number(query.get("resourceVersion"));
    response.writeHead(200, { "content-type": "application/json" });
    if (from < compacted) {
      const object = { kind: "Status", code: 410, message: `too old resource version: ${from} (${compacted})` };
      response.end(`${JSON.stringify({ type: "ERROR", object })}\n`);
      return;
    }
    response.flushHeaders();
    const missed = history.filter((entry) => entry.path === path && entry.version > from);
    for (const { event } of missed)
      if (matches((event as { object: Stored }).object)) response.write(`${JSON.stringify(event)}\n`);
    const watcher = { path, matches, response };
    watchers.add(watcher);
    response.once("close", () => watchers.delete(watcher));
  }

  async function write(request: IncomingMessage, url: URL, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = JSON.parse(Buffer.concat(chunks).toString("utf8") || "{}");
    const { method = "" } = request;
    const contentType = request.headers["content-type"] ?? "";
    writes.push({ method, path: url.pathname, query: url.searchParams, contentType, body });
    const place = placeOf(url.pathname);
    const said = method === "POST" ? posts.get(place.collection)?.(body, url.searchParams) : undefined;
    if (said) return json(response, ...said);
    const collection = collections.get(place.collection);
    if (!collection) return status(response, 404, "the server could not find the requested resource");
    const inside = place.namespace === undefined ? {} : { namespace: place.namespace };
    const name = place.name ?? body.metadata?.name;
    const key = place.namespace === undefined ? name : `${place.namespace}/${name}`;
    const found = collection.get(key);
    const apply = contentType.includes("apply-patch");
    if (method === "POST" && found) return status(response, 409, `${name} already exists`);
    if (method !== "POST" && !found && !(apply && !place.status)) return status(response, 404, `${name} not found`);
    const wanted = body.metadata?.resourceVersion;
    if (wanted !== undefined && wanted !== found?.metadata.resourceVersion)
      return status(response, 409, "the object has been modified; please apply your changes to the latest version");
    if (method === "DELETE") return json(response, 200, discard(place.collection, key)!);
    const changed =
      method === "PATCH" ? (apply ? applyPatch(found ?? {}, body) : mergePatch(found, body)) : (body as unknown);
    const whole = place.status ? { ...found, status: (changed as Stored)["status"] } : (changed as object);
    const metadata = { ...(whole as Stored).metadata, ...inside, name };
    if (url.searchParams.has("dryRun")) return json(response, 200, { ...whole, metadata });
    json(response, method === "POST" ? 201 : 200, store(place.collection, { ...whole, metadata }));
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://api");
    requests.push(`${request.method} ${url.pathname}${url.search}`);
    const failing = failures.shift() || refused.get(url.pathname);
    if (isAway) {
      request.socket.destroy();
      return;
    }
    if (failing) return status(response, failing, "told to fail");
    if (options.token !== undefined && request.headers.authorization !== `Bearer ${options.token}`)
      return status(response, 401, "Unauthorized");
    if (request.method !== "GET") return await write(request, url, response);
    const place = placeOf(url.pathname);
    const path = collections.has(url.pathname) ? url.pathname : place.collection;
    const only = /^metadata\.name=(.*)$/.exec(url.searchParams.get("fieldSelector") ?? "")?.[1];
    const matches = ({ metadata }: Stored) =>
      (path === url.pathname || place.namespace === undefined || metadata.namespace === place.namespace) &&
      (only === undefined || metadata.name === only);
    const named = path !== url.pathname && place.name !== undefined;
    if (!collections.has(path)) status(response, 404, "the server could not find the requested resource");
    else if (named) {
      const key = place.namespace === undefined ? place.name : `${place.namespace}/${place.name}`;
      const object = collections.get(path)!.get(key!);
      if (object) json(response, 200, object);
      else status(response, 404, `${place.name} not found`);
    } else if (url.searchParams.get("watch") === "true") watch(path, matches, url.searchParams, response);
    else list(path, matches, url.searchParams, response);
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((caught) => status(response, 500, String(caught)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    writes,
    answerPosts: (path, reply) => void posts.set(path, reply),
    get: (path, name) => collections.get(path)?.get(name),
    serve(path) {
      if (!collections.has(path)) collections.set(path, new Map());
    },
    forget(path) {
      collections.delete(path);
      for (const watcher of watchers) {
        if (watcher.path !== path) continue;
        watcher.response.end();
        watchers.delete(watcher);
      }
    },
    put: (path, object) => void store(path, object),
    remove(path, name) {
      if (!discard(path, name)) throw new Error(`there is no ${name} in ${path}`);
    },
    bookmark() {
      const object = { metadata: { resourceVersion: String(version) } };
      for (const { response } of watchers) response.write(`${JSON.stringify({ type: "BOOKMARK", object })}\n`);
    },
    compact() {
      compacted = ++version;
      history.length = 0;
    },
    endWatches(how) {
      for (const { response } of watchers) {
        if (how === "closed") response.end();
        else response.destroy();
      }
      watchers.clear();
    },
    say(line) {
      for (const { response } of watchers) response.write(`${line}\n`);
    },
    failNext: (...statuses) => void failures.push(...statuses),
    refuse(path, code) {
      if (code === undefined) refused.delete(path);
      else refused.set(path, code);
    },
    away(is) {
      isAway = is;
      if (is) server.closeAllConnections();
    },
    watching: (path) => [...watchers].filter((watcher) => watcher.path === path).length,
  };
}
