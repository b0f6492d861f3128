import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { Cell, type Failure, Scope, silentLogger, systemClock } from "../../base/index.ts";
import { AggregatedDiscoveryService } from "../../proto/gen/envoy/service/discovery/v3/ads_pb.js";
import {
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
} from "../../proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { scratchDir, testAuthority } from "../../testing/index.ts";
import { parseSpiffeId } from "../../values/index.ts";
import { openChannel } from "./channel.ts";
import { type ClientSecurity, type ServerSecurity, type TlsMaterial, uriNames } from "./credentials.ts";
import { type GrpcListen, implement, type ServerStream, startGrpcServer } from "./server.ts";
import { grpcFailure, statusFromFailure } from "./status.ts";

const method = AggregatedDiscoveryService.method.streamAggregatedResources;
const spiffe = "spiffe://cluster.local/ns/foo/sa/sleep";
const serverId = parseSpiffeId("spiffe://cluster.local/ns/isthmus-system/sa/isthmusd")!;
const authority = await testAuthority();
const serverTls = await authority.issue({ uris: [serverId], dns: ["isthmusd.isthmus-system.svc"] });
const clientTls = await authority.issue({ uris: [spiffe] });

let scope = new Scope();
afterEach(async () => {
  await scope.close();
  scope = new Scope();
});

type Stream = ServerStream<{ readonly typeUrl: string }, DiscoveryResponse>;

async function serve(
  handler: (stream: Stream) => Promise<void>,
  options: { readonly security?: ServerSecurity; readonly listen?: GrpcListen; readonly maxRequestBytes?: number } = {},
  within = scope,
): Promise<number> {
  const { port } = await startGrpcServer(
    {
      listen: options.listen ?? { ip: "127.0.0.1", port: 0 },
      security: options.security ?? { kind: "plaintext" },
      services: [implement(AggregatedDiscoveryService, { streamAggregatedResources: handler })],
      log: silentLogger,
      limits: options.maxRequestBytes === undefined ? {} : { maxRequestBytes: options.maxRequestBytes },
    },
    within,
  );
  return port;
}

const call = (target: string, security: ClientSecurity = { kind: "plaintext" }) =>
  openChannel({ target, security }, scope).bidi(method);

/** Says who called, and ends. */
const whoami = async (stream: Stream) => {
  const { certificate } = stream.caller;
  await stream.send(
    create(DiscoveryResponseSchema, { versionInfo: certificate?.spiffeIds.join() ?? "nobody", nonce: "1" }),
  );
};

async function first(stream: ReturnType<typeof call>): Promise<DiscoveryResponse> {
  for await (const response of stream.responses) return response;
  throw new Error("the stream ended without a response");
}

const failureOf = (promise: Promise<unknown>): Promise<Failure> =>
  promise.then(
    () => expect.fail("it did not fail"),
    (failure) => failure,
  );

describe("a call", () => {
  test("goes both ways, messages as well as bytes that are encoded already", async () => {
    const port = await serve(async (stream) => {
      for await (const { typeUrl } of stream.requests) {
        await stream.send(create(DiscoveryResponseSchema, { typeUrl }));
        await stream.send(Uint8Array.of(0x2a, 3, 0x61, 0x62, 0x63)); // field 5, the nonce: "abc"
      }
    });
    const stream = call(`127.0.0.1:${port}`);
    await stream.send(create(DiscoveryRequestSchema, { typeUrl: "a" }));
    stream.end();
    const got: string[] = [];
    for await (const response of stream.responses) got.push(`${response.typeUrl}/${response.nonce}`);
    expect(got).toEqual(["a/", "/abc"]);
  });

  test("that is refused carries status, message and hint", async () => {
    const port = await serve(async () => {
      throw grpcFailure("permission-denied", 'namespace "foo" is not yours', { hint: "ask its owner" });
    });
    const failure = await failureOf(first(call(`127.0.0.1:${port}`)));
    expect(failure.code).toBe("grpc/permission-denied");
    expect(failure.message).toContain('namespace "foo" is not yours [ask its owner]');
  });

  test("that breaks on a fault of ours shows nothing of it to the caller", async () => {
    const port = await serve(async () => {
      throw new TypeError("cannot read /secret/path");
    });
    const failure = await failureOf(first(call(`127.0.0.1:${port}`)));
    expect(failure.code).toBe("grpc/internal");
    expect(failure.message).not.toContain("secret");
  });

  test("with a method that nobody serves is unimplemented", async () => {
    const port = await serve(whoami);
    const other = openChannel({ target: `127.0.0.1:${port}`, security: { kind: "plaintext" } }, scope).bidi(
      AggregatedDiscoveryService.method.deltaAggregatedResources,
    );
    const failure = await failureOf(
      (async () => {
        for await (const _ of other.responses);
      })(),
    );
    expect(failure.code).toBe("grpc/unimplemented");
  });

  test("with a message over the limit is refused, and the server goes on", async () => {
    const port = await serve(
      async (stream) => {
        for await (const _ of stream.requests) await whoami(stream);
      },
      { maxRequestBytes: 1000 },
    );
    const big = call(`127.0.0.1:${port}`);
    big.send(create(DiscoveryRequestSchema, { resourceNames: ["x".repeat(5000)] })).catch(() => {});
    expect((await failureOf(first(big))).code).toBe("grpc/resource-exhausted");
    const small = call(`127.0.0.1:${port}`);
    await small.send(create(DiscoveryRequestSchema, {}));
    expect((await first(small)).versionInfo).toBe("nobody");
  });

  test("to a port where nobody listens is unavailable", async () => {
    const failure = await failureOf(first(call("127.0.0.1:1")));
    expect(failure.code).toBe("grpc/unavailable");
  });

  test("ends as unavailable when the server stops, and the server's end hears of it", async () => {
    const server = new Scope();
    let over: AbortSignal | undefined;
    const port = await serve(
      async (stream) => {
        over = stream.signal;
        await whoami(stream);
        for await (const _ of stream.requests);
      },
      {},
      server,
    );
    const stream = call(`127.0.0.1:${port}`);
    const responses = stream.responses[Symbol.asyncIterator]();
    await responses.next();
    const next = failureOf(responses.next());
    await server.close({ drainMs: 2_000, clock: systemClock });
    expect((await next).code).toBe("grpc/unavailable");
    expect(over?.aborted).toBe(true);
  });

  test("that the caller gives up ends the handler, also one that waits to send", async () => {
    let ended: (reason: unknown) => void = () => {};
    const reason = new Promise<unknown>((resolve) => {
      ended = resolve;
    });
    const port = await serve(async (stream) => {
      const megabyte = create(DiscoveryResponseSchema, { versionInfo: "x".repeat(1 << 20) });
      try {
        for (;;) await stream.send(megabyte);
      } catch (failure) {
        ended(failure);
        throw failure;
      }
    });
    const stream = call(`127.0.0.1:${port}`);
    await stream.responses[Symbol.asyncIterator]().next();
    stream.cancel();
    expect(((await reason) as Failure).code).toBe("grpc/cancelled");
  });
});

describe("over TLS", () => {
  const tls = (material: TlsMaterial, clientCertificate: "required" | "optional" = "optional"): ServerSecurity => ({
    kind: "tls",
    material: new Cell(material),
    clientCertificate,
  });
  const client = (material: Extract<ClientSecurity, { kind: "tls" }>["material"]["value"], ids = [serverId]) =>
    ({
      kind: "tls",
      material: new Cell(material),
      expect: { kind: "spiffe", ids, serverName: "isthmusd" },
    }) satisfies ClientSecurity;

  test("the handler gets the caller's identity", async () => {
    const port = await serve(whoami, { security: tls(serverTls, "required") });
    expect((await first(call(`127.0.0.1:${port}`, client(clientTls)))).versionInfo).toBe(spiffe);
  });

  test("a caller without certificate is nobody where it is optional, and refused where it is required", async () => {
    const rootsOnly = { rootsPem: authority.rootPem };
    const optional = await serve(whoami, { security: tls(serverTls, "optional") });
    expect((await first(call(`127.0.0.1:${optional}`, client(rootsOnly)))).versionInfo).toBe("nobody");
    const required = await serve(whoami, { security: tls(serverTls, "required") });
    expect((await failureOf(first(call(`127.0.0.1:${required}`, client(rootsOnly))))).code).toBe("grpc/unavailable");
  });

  test("a certificate of a foreign root with the same names is nobody", async () => {
    const forged = await (await testAuthority("foreign root")).issue({ uris: [spiffe] });
    const port = await serve(whoami, { security: tls(serverTls, "optional") });
    const response = await first(call(`127.0.0.1:${port}`, client({ ...forged, rootsPem: authority.rootPem })));
    expect(response.versionInfo).toBe("nobody");
  });

  test("a certificate of a foreign root that calls itself by our root's name is not even let in", async () => {
    const forged = await (await testAuthority()).issue({ uris: [spiffe] });
    const port = await serve(whoami, { security: tls(serverTls, "optional") });
    const refused = first(call(`127.0.0.1:${port}`, client({ ...forged, rootsPem: authority.rootPem })));
    expect((await failureOf(refused)).code).toBe("grpc/unavailable");
  });

  test("a server with another identity, name or root is not talked to", async () => {
    const port = await serve(whoami, { security: tls(serverTls) });
    const other = parseSpiffeId("spiffe://cluster.local/ns/foo/sa/httpbin")!;
    const target = `127.0.0.1:${port}`;
    expect((await failureOf(first(call(target, client(clientTls, [other]))))).message).toContain("isthmusd");
    const foreign = { ...clientTls, rootsPem: (await testAuthority()).rootPem };
    expect((await failureOf(first(call(target, client(foreign))))).code).toBe("grpc/unavailable");
    const byName = (name: string): ClientSecurity => ({
      kind: "tls",
      material: new Cell({ rootsPem: authority.rootPem }),
      expect: { kind: "dns", name },
    });
    expect((await failureOf(first(call(target, byName("other.svc"))))).code).toBe("grpc/unavailable");
    expect((await first(call(target, byName("isthmusd.isthmus-system.svc")))).versionInfo).toBe("nobody");
  });

  test("new certificates and roots serve the next connection, and a broken one changes nothing", async () => {
    const material = new Cell<TlsMaterial>(serverTls);
    const port = await serve(whoami, { security: { kind: "tls", material, clientCertificate: "optional" } });
    const target = `127.0.0.1:${port}`;
    material.set({ ...serverTls, privateKeyPem: clientTls.privateKeyPem });
    expect((await first(call(target, client(clientTls)))).versionInfo).toBe(spiffe);
    const next = await testAuthority("next root");
    material.set(await next.issue({ uris: [serverId] }));
    const nextClient = await next.issue({ uris: [spiffe] });
    expect((await first(call(target, client(nextClient)))).versionInfo).toBe(spiffe);
    expect((await failureOf(first(call(target, client(clientTls))))).code).toBe("grpc/unavailable");
  });

  test("a plaintext caller gets no answer", async () => {
    const port = await serve(whoami, { security: tls(serverTls) });
    expect((await failureOf(first(call(`127.0.0.1:${port}`)))).code).toBe("grpc/unavailable");
  });
});

describe("on a path", () => {
  test("it serves, and takes the place of a dead socket but of nothing else", async () => {
    const path = join(scratchDir(), "ads.sock");
    const before = new Scope();
    await serve(whoami, { listen: { path } }, before);
    expect((await first(call(`unix:${path}`))).versionInfo).toBe("nobody");
    expect((await failureOf(serve(whoami, { listen: { path } }))).message).toContain("another process");
    await before.close();
    const dead = createServer().listen(path);
    await new Promise((resolve) => dead.once("listening", resolve));
    const file = join(scratchDir(), "file");
    writeFileSync(file, "precious");
    expect((await failureOf(serve(whoami, { listen: { path: file } }))).message).toContain("a file of that name");
    dead.close();
  });
});

test("a port in use is refused with its address", async () => {
  const port = await serve(whoami);
  const failure = await failureOf(serve(whoami, { listen: { ip: "127.0.0.1", port } }));
  expect(failure.code).toBe("grpc/listen");
  expect(failure.message).toContain(`127.0.0.1:${port}`);
});

describe("names in a certificate", () => {
  const rows = [
    { it: "one", printed: `URI:${spiffe}`, uris: [spiffe] },
    { it: "among others", printed: `DNS:a.b, URI:${spiffe}, IP Address:1.2.3.4`, uris: [spiffe] },
    { it: "two", printed: "URI:spiffe://a/x, URI:spiffe://b/y", uris: ["spiffe://a/x", "spiffe://b/y"] },
    { it: "one quoted to hide another", printed: 'DNS:"a, URI:spiffe://a/x"', uris: [] },
    { it: "a quoted one", printed: 'URI:"spiffe://a/x, URI:spiffe://b/y"', uris: ["spiffe://a/x, URI:spiffe://b/y"] },
    { it: "none", printed: "", uris: [] },
  ];
  for (const { it, printed, uris } of rows) test(it, () => expect(uriNames(printed)).toEqual(uris));
});

test("a message with half a surrogate pair still makes a status", () => {
  const { details } = statusFromFailure(grpcFailure("not-found", "no \ud800 such"));
  expect(encodeURI(details)).toContain("no%20");
});
