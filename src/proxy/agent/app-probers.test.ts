import { describe, expect, test } from "vitest";
import { readAppProbers } from "./app-probers.ts";

test("what injection wrote is read", () => {
  const text = JSON.stringify({
    "/app-health/web/readyz": {
      httpGet: { path: "ready?x=1", port: 8080, scheme: "HTTPS", httpHeaders: [{ name: "Host", value: "web" }] },
      timeoutSeconds: 3,
    },
    "/app-health/web/livez": { tcpSocket: { port: 8080 } },
    "/app-health/web-2/startupz": { grpc: { port: 9000 } },
  });
  expect(readAppProbers(text)).toEqual(
    new Map<string, object>([
      [
        "/app-health/web/readyz",
        { by: "http", port: 8080, path: "/ready?x=1", secure: true, headers: [["Host", "web"]], timeoutMs: 3000 },
      ],
      ["/app-health/web/livez", { by: "tcp", port: 8080, timeoutMs: 1000 }],
      ["/app-health/web-2/startupz", { by: "grpc", port: 9000, service: "", timeoutMs: 1000 }],
    ]),
  );
});

describe("what is none is refused in words", () => {
  const path = "/app-health/a/readyz";
  for (const text of [
    "{",
    "[]",
    "null",
    JSON.stringify({ "/healthz/ready": { tcpSocket: { port: 1 } } }),
    JSON.stringify({ "/app-health/../readyz": { tcpSocket: { port: 1 } } }),
    JSON.stringify({ [path]: null }),
    JSON.stringify({ [path]: {} }),
    JSON.stringify({ [path]: { tcpSocket: { port: "http" } } }),
    JSON.stringify({ [path]: { tcpSocket: { port: 1 }, httpGet: { port: 1 } } }),
    JSON.stringify({ [path]: { httpGet: { port: 1, scheme: "FTP" } } }),
    JSON.stringify({ [path]: { httpGet: { port: 1, httpHeaders: [{ name: "a b", value: "c" }] } } }),
    JSON.stringify({ [path]: { httpGet: { port: 1, httpHeaders: [{ name: "a", value: "c\r\nd: e" }] } } }),
    JSON.stringify({ [path]: { tcpSocket: { port: 1 }, timeoutSeconds: 0 } }),
  ])
    test(text, () => expect(readAppProbers(text)).toHaveProperty("problems"));
});
