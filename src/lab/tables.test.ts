import { expect, test } from "vitest";
import { imageCommand, splitImage } from "./images.ts";
import { forLoopback } from "./loopback.ts";
import { labVariables, substitute } from "./variables.ts";

const images = [
  { image: "curlimages/curl", gets: "given" },
  { image: "docker.io/governmentpaas/curl-ssl:latest", gets: "given" },
  { image: "docker.io/kennethreitz/httpbin", gets: "httpbin.js" },
  { image: "localhost:5000/mccutchen/go-httpbin:v2@sha256:00", gets: "httpbin.js" },
  { image: "istio/tcp-echo-server:1.2", gets: "tcp-echo.js" },
  { image: "isthmus/grpc-echo", gets: "grpc-echo.js" },
  { image: "docker.io/istio/examples-bookinfo-reviews-v2:1.16.2", gets: "reviews.js v2" },
  { image: "isthmus/gateway", gets: "gateway" },
  { image: "nginx:1.27", gets: "unknown" },
  { image: "", gets: "unknown" },
] as const;
for (const { image, gets } of images) {
  test(`image "${image}" gets ${gets}`, () => {
    const command = imageCommand({ image, port: 80, annotations: {} });
    const words =
      command.kind === "run"
        ? [command.argv.at(-1)!.split("/").at(-1), command.env["SERVICE"], command.env["SERVICE_VERSION"]]
        : [command.kind];
    expect(words.filter(Boolean).join(" ")).toBe(gets);
  });
}

test("an unknown image is told together with what is known and how to add one", () => {
  const command = imageCommand({ image: "nginx", port: 80, annotations: {} });
  expect(command.kind === "unknown" && command.message).toContain("kennethreitz/httpbin");
  expect(command.kind === "unknown" && command.message).toContain("lab.isthmus.dev/command");
});

test("an annotation's command goes before the table", () => {
  const annotations = { "lab.isthmus.dev/command": "nginx -g 'daemon off;'" };
  expect(imageCommand({ image: "nginx", port: 80, annotations })).toEqual({
    kind: "run",
    argv: ["sh", "-c", "nginx -g 'daemon off;'"],
    env: {},
  });
});

test("a registry is told from an owner by its dot, port or the word localhost", () => {
  expect(splitImage("registry.example:5000/a/b:1")).toEqual({ name: "a/b", tag: "1" });
  expect(splitImage("docker.io/library/busybox")).toEqual({ name: "busybox", tag: "latest" });
});

test("variables are filled in without moving a line, and unknown ones are named", () => {
  const variables = labVariables(["cluster1", "cluster2"]);
  const text = "a: ${CLUSTER2_GW_ADDR}\nb: ${CLUSTER1_EGW_ADDR}\nc: ${NOBODY}\n";
  const filled = substitute(text, variables);
  expect(filled.text).toBe("a: 172.30.2.10\nb: 10.96.0.11\nc: ${NOBODY}\n");
  expect(filled.unknown).toEqual(["NOBODY"]);
});

test("on loopback an endpoint that names a gateway gets the port where it listens, another one stays", () => {
  const object = {
    kind: "ServiceEntry",
    spec: {
      endpoints: [
        { address: "172.30.2.10", ports: { http1: 15443 }, labels: { version: "v1" } },
        { address: "198.51.100.1", ports: { http1: 15443 } },
      ],
    },
  };
  const gateways = [{ known: [{ address: "172.30.2.10", port: 15443 }], port: 40001 }];
  expect(forLoopback(object, gateways)).toEqual({
    kind: "ServiceEntry",
    spec: {
      endpoints: [
        { address: "127.0.0.1", ports: { http1: 40001 }, labels: { version: "v1" } },
        { address: "198.51.100.1", ports: { http1: 15443 } },
      ],
    },
  });
  expect(forLoopback({ kind: "Service", spec: {} }, gateways)).toEqual({ kind: "Service", spec: {} });
});
