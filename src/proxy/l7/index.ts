// HTTP: both codecs, both ways, routes, retries, pools. Absent on purpose: accepting, TLS, addresses, balancing.
export { type HttpProxy, type HttpService, serveHttp, startHttpProxy } from "./serve-http.ts";
