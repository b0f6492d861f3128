// An httpbin of our own, with the paths and the JSON of the well-known one.
// Environment: PORT (80), HOST (every address), HOSTNAME (the pod's name, sent back as x-served-by).
import { httpbinServer } from "./httpbin/server.ts";
import { portsFrom, serveUntilStopped } from "./serve.ts";

void serveUntilStopped(
  "httpbin",
  portsFrom(process.argv[2] ?? process.env["PORT"] ?? "80").map((port) => ({ port, server: httpbinServer() })),
);
