import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

interface Stored {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly resourceVersion: string };
  readonly [field: string]: unknown;
}

interface Watcher {
  readonly path: string;
  readonly response: ServerResponse;
}

/**
 * The part of an API server that readers need: lists in pages, watches with bookmarks, history that can be compacted.
 * It can be told to fail, so that what a reader makes of failures can be seen.
 */
export interface FakeKubeApi {
  readonly url: string;
  /** Every request so far: `GET /api/v1/services?limit=500`. */
  readonly requests: readonly string[];
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
  const failures: number[] = [];
  let version = 1;
  let compacted = 0;
  const refused = new Map<string, number>();
  let isAway = false;

  const status = (response: ServerResponse, code: number, message: string) => {
    response.writeHead(code, { "content-type": "application/json" });
    response.end(JSON.stringify({ kind: "Status", apiVersion: "v1", status: "Failure", code, message }));
  };
  const nameOf = ({ metadata: { name, namespace } }: Stored) =>
    namespace === undefined ? name : `${namespace}/${name}`;
  const record = (path: string, event: { readonly type: string; readonly object: Stored }) => {
    history.push({ version, path, event });
    for (const watcher of watchers) if (watcher.path === path) watcher.response.write(`${JSON.stringify(event)}\n`);
  };

  function list(path: string, query: URLSearchParams, response: ServerResponse): void {
    const all = [...collections.get(path)!.values()].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
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

  function watch(path: string, query: URLSearchParams, response: ServerResponse): void {
    const from = Number(query.get("resourceVersion"));
    response.writeHead(200, { "content-type": "application/json" });
    if (from < compacted) {
      const object = { kind: "Status", code: 410, message: `too old resource version: ${from} (${compacted})` };
      response.end(`${JSON.stringify({ type: "ERROR", object })}\n`);
      return;
    }
    response.flushHeaders();
    const missed = history.filter((entry) => entry.path === path && entry.version > from);
    for (const { event } of missed) response.write(`${JSON.stringify(event)}\n`);
    const watcher = { path, response };
    watchers.add(watcher);
    response.once("close", () => watchers.delete(watcher));
  }

  function answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "/", "http://api");
    requests.push(`${request.method} ${url.pathname}${url.search}`);
    const failing = failures.shift() || refused.get(url.pathname);
    if (isAway) request.socket.destroy();
    else if (failing) status(response, failing, "told to fail");
    else if (options.token !== undefined && request.headers.authorization !== `Bearer ${options.token}`) {
      status(response, 401, "Unauthorized");
    } else if (!collections.has(url.pathname)) {
      const [, path, name] = /^(.*)\/([^/]+)$/.exec(url.pathname) ?? [];
      const object = collections.get(path ?? "")?.get(name ?? "");
      if (!object) status(response, 404, "the server could not find the requested resource");
      else response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(object));
    } else if (url.searchParams.get("watch") === "true") watch(url.pathname, url.searchParams, response);
    else list(url.pathname, url.searchParams, response);
  }

  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
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
    put(path, object) {
      const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++version) } } as Stored;
      const collection = collections.get(path)!;
      const type = collection.has(nameOf(stored)) ? "MODIFIED" : "ADDED";
      collection.set(nameOf(stored), stored);
      record(path, { type, object: stored });
    },
    remove(path, name) {
      const stored = collections.get(path)?.get(name);
      if (!stored) throw new Error(`there is no ${name} in ${path}`);
      collections.get(path)!.delete(name);
      const metadata = { ...stored.metadata, resourceVersion: String(++version) };
      record(path, { type: "DELETED", object: { ...stored, metadata } });
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
