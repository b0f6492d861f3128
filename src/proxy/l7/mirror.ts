import type { RequestHead, UpstreamHandler } from "./message.ts";
import type { Served } from "./serve-http.ts";

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
export function mirror(served: Served, cluster: string, request: RequestHead, body: readonly Buffer[]): void {
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
