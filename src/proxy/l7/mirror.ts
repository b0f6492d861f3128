import type { Mirror } from "../config/route.ts";
import { keep } from "../l4/read-buffers.ts";
import { limits, type RequestHead, type UpstreamHandler } from "./message.ts";
import type { Served } from "./serve-http.ts";

/** Copies of one request that wait for its body to be whole. A body too large to keep is not copied. */
export class Copies {
  readonly #served: Served;
  readonly #request: RequestHead;
  readonly #clusters: readonly string[];
  #body: Buffer[];
  #bytes: number;

  constructor(
    served: Served,
    given: { readonly request: RequestHead; readonly clusters: readonly string[]; readonly body: readonly Buffer[] },
  ) {
    this.#served = served;
    this.#request = given.request;
    this.#clusters = given.clusters;
    this.#body = [...given.body];
    this.#bytes = this.#body.reduce((sum, { length }) => sum + length, 0);
  }

  take(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > limits.replayBytes) this.#body = [];
    else this.#body.push(keep(chunk));
  }

  send(): void {
    if (this.#bytes > limits.replayBytes) return;
    for (const cluster of this.#clusters) mirror(this.#served, cluster, this.#request, this.#body);
  }
}

/** The clusters that get a copy of this request. */
export function chooseMirrors(mirrors: readonly Mirror[], random: () => number): readonly string[] {
  return mirrors.filter(({ fraction }) => random() < fraction).map(({ cluster }) => cluster);
}

// The answer to a copy is nobody's business.
const ignore: UpstreamHandler = {
  onInformational() {},
  onResponse() {},
  onResponseData() {},
  onResponseEnd() {},
  onUpstreamReset() {},
  onUpstreamDrain() {},
};

/** Sends a copy of a request, its body whole, to another cluster, with `-shadow` on its host, and forgets it. */
function mirror(served: Served, cluster: string, request: RequestHead, body: readonly Buffer[]): void {
  const { http } = served.service;
  const upstream = http.upstreams.get(cluster);
  const picked = upstream?.pick({ destination: served.connection.destination });
  if (!upstream || picked?.kind !== "endpoint") return;
  const pool = http.pools.of(upstream);
  if (pool.active >= upstream.limits.maxRequests) return;
  const copy = {
    ...request,
    headers: [...request.headers],
    authority: shadowed(request.authority),
    upgrade: undefined,
  };
  const ended = upstream.begin(picked.endpoint);
  const protocol =
    upstream.httpProtocol === "http2" || (upstream.httpProtocol === "downstream" && request.version === "HTTP/2");
  void (async () => {
    try {
      const connection = await pool.acquire(picked.endpoint, protocol ? "http2" : "http1");
      const stream = connection.start(copy, ignore);
      for (const chunk of body) stream.data(chunk);
      if (copy.hasBody) stream.end(undefined);
      ended("success");
    } catch (caught) {
      // A copy that finds no server is lost; the request itself is not touched by that.
      http.log.debug({ cluster, err: caught }, "mirrored request lost");
      ended("connect-failure");
    }
  })();
}

function shadowed(authority: string): string {
  const colon = authority.lastIndexOf(":");
  return colon > authority.lastIndexOf("]")
    ? `${authority.slice(0, colon)}-shadow${authority.slice(colon)}`
    : `${authority}-shadow`;
}
