import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { Order, Result } from "./caller/order.ts";
import { makeCalls } from "./caller.ts";
import { echoServer, echoTcpServer, type Me } from "./echo.ts";

const me: Me = { cluster: "c1", namespace: "foo", workload: "echo-v1", version: "v1", pod: "echo-v1-a" };
const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** A server on a free port, and what it said of the requests that reached it. */
async function served(make: typeof echoServer | typeof echoTcpServer = echoServer) {
  const seen: Record<string, unknown>[] = [];
  const server = make({ me, onSeen: (line) => seen.push(JSON.parse(line) as Record<string, unknown>) });
  await new Promise<void>((up) => server.listen(0, "127.0.0.1", up));
  closers.push(() => server.close());
  return { to: `127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

const how = { id: 1, times: 1, parallel: 1, connection: "each", timeoutMs: 5_000 } as const;

async function call(order: Partial<Order>): Promise<Result> {
  return (await makeCalls({ ...how, ...order }))[0]!;
}

function get(to: string, path: string, more: Partial<NonNullable<Order["http"]>> = {}): Partial<Order> {
  return { http: { url: `http://${to}${path}`, method: "GET", headers: {}, version: "1.1", ...more } };
}

const said = (result: Result) => JSON.parse(result.body!) as Record<string, unknown>;

for (const version of ["1.1", "2"] as const) {
  test(`on one port it says what it saw of HTTP/${version}`, async () => {
    const { to, seen } = await served();
    const headers = { "x-scenario-key": "k1" };
    const result = await call(get(to, "/a?b=c", { version, method: "POST", body: "text", headers }));
    expect(result).toMatchObject({ status: 200 });
    expect(said(result)).toMatchObject({ ...me, method: "POST", path: "/a?b=c", authority: to, body: "text" });
    expect(said(result)).toMatchObject({ protocol: version === "2" ? "h2" : "http/1.1", headers });
    expect(seen).toMatchObject([{ workload: "echo-v1", path: "/a?b=c", answered: 200, headers }]);
  });

  test(`it answers HTTP/${version} as its query asks`, async () => {
    const { to } = await served();
    const odd = await call(get(to, "/?status=418&header=X-One:two", { version }));
    expect(odd).toMatchObject({ status: 418, headers: { "x-one": "two" } });
    const long = await call(get(to, "/?bytes=100000", { version }));
    expect(long).toMatchObject({ status: 200, bytes: 100_000 });
    const slow = await call(get(to, "/?delay=120ms", { version }));
    expect(slow.tookMs).toBeGreaterThanOrEqual(110);
    const cut = await call(get(to, "/?reset=1", { version }));
    expect(["reset", "closed"]).toContain(cut.error);
  });

  test(`over HTTP/${version} the first requests of a key fail as often as it asks, others do not`, async () => {
    const { to } = await served();
    const of = async (key: string) => {
      const order = get(to, "/?fail=2", { version, headers: { "x-scenario-key": key } });
      return (await makeCalls({ ...how, ...order, times: 3 })).map(({ status }) => status);
    };
    expect(await of("a")).toEqual([503, 503, 200]);
    expect(await of("b")).toEqual([503, 503, 200]);
  });
}

test("it answers TCP with a line that says who it is, and then with every byte", async () => {
  const { to, seen } = await served(echoTcpServer);
  const result = await call({ tcp: { to, send: "hello" } });
  expect(result.messages).toEqual(["hello"]);
  expect(JSON.parse(result.servedBy!)).toEqual(me);
  expect(seen).toMatchObject([{ protocol: "tcp", pod: "echo-v1-a" }]);
});

test("it answers gRPC, one message or several, and fails as it is asked", async () => {
  const { to } = await served();
  const grpc = { to, method: "unary", message: "hello", headers: {} } as const;
  expect(await call({ grpc })).toMatchObject({ grpcStatus: 0, messages: ["hello"], servedBy: JSON.stringify(me) });
  expect(await call({ grpc: { ...grpc, method: "stream" } })).toMatchObject({
    grpcStatus: 0,
    messages: ["hello", "hello", "hello"],
  });
  expect(await call({ grpc: { ...grpc, query: "status=503" } })).toMatchObject({ grpcStatus: 14, messages: [] });
});

test("it opens a WebSocket on any path and sends back what it gets", async () => {
  const { to, seen } = await served();
  const result = await call({ websocket: { url: `ws://${to}/any?x=1`, headers: {}, send: "hello" } });
  expect(result).toMatchObject({ status: 101, messages: ["hello"], servedBy: JSON.stringify(me) });
  expect(seen).toMatchObject([{ path: "/any?x=1", answered: 101 }]);
});

test("kept connections are kept, others are not", async () => {
  const { to } = await served();
  const ports = async (connection: "each" | "kept") => {
    const results = await makeCalls({ ...how, ...get(to, "/"), connection, times: 6, parallel: 2 });
    return new Set(results.map(({ localPort }) => localPort)).size;
  };
  expect(await ports("kept")).toBe(2);
  expect(await ports("each")).toBe(6);
});

const endings = [
  { it: "nobody listens", order: async () => get("127.0.0.1:1", "/"), error: "refused" },
  { it: "a name does not resolve", order: async () => get("nobody.invalid:80", "/"), error: "dns" },
  {
    it: "nothing comes in time",
    order: async () => ({ ...get((await served()).to, "/?delay=5s"), timeoutMs: 100 }),
    error: "timeout",
  },
  {
    it: "TLS is spoken to who does not",
    order: async () => ({ tcp: { to: (await served()).to, send: "x", tls: { sni: "a" } } }),
    error: "tls",
  },
] as const;
for (const { it, order, error } of endings) {
  test(`where ${it} the caller says ${error}`, async () => {
    expect(await call(await order())).toMatchObject({ error });
  });
}
