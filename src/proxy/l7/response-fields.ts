import type { WeightedCluster } from "../config/route.ts";
import type { Account } from "./account.ts";
import { type Headers, headerValue, setHeader } from "./headers.ts";
import { changeHeaders } from "./route-match.ts";
import type { Served } from "./serve-http.ts";

/** Makes the fields of an answer, an upstream's or our own, what route and listener say, in place. */
export function addResponseFields(
  headers: Headers,
  of: {
    readonly served: Served;
    readonly account: Account;
    readonly weighted: WeightedCluster | undefined;
    readonly cors: Headers | undefined;
  },
): void {
  const { served, account, weighted, cors } = of;
  const { server, requestId } = served.service.manager;
  if (weighted) changeHeaders(headers, weighted.responseHeaders, account);
  if (account.route) changeHeaders(headers, account.route.responseHeaders, account);
  const { mode, name } = server;
  if (mode === "overwrite" || (mode === "if-absent" && headerValue(headers, "server") === undefined))
    setHeader(headers, "server", name);
  if (cors) for (let i = 0; i < cors.length; i += 2) setHeader(headers, cors[i]!, cors[i + 1]!);
  const id = requestId.inResponse ? headerValue(account.request.headers, "x-request-id") : undefined;
  if (id !== undefined) setHeader(headers, "x-request-id", id);
}
