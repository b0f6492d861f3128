import { execFile, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { type AddressInfo, connect, createServer } from "node:net";
import { promisify } from "node:util";
import dnsPacket from "dns-packet";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../base/index.ts";
import { parseHostname, parseIp, type SocketAddress } from "../values/index.ts";
import type { ForwardOptions } from "./forward.ts";
import { startDnsServer } from "./server.ts";
import { buildZone, type Zone } from "./zone.ts";

const loopback = parseIp("127.0.0.1")!;
const suffixes = [parseHostname("global")!];
const entry = (name: string, address: string) => ({ name: parseHostname(name)!, addresses: [parseIp(address)!] });
const many = Array.from({ length: 200 }, (_, i) => parseIp(`240.1.0.${i + 1}`)!);
const zone = buildZone({
  suffixes,
  names: [entry("httpbin.bar.global", "240.0.0.2"), { name: parseHostname("many.bar.global")!, addresses: many }],
});

const scopes: Scope[] = [];
afterEach(async () => {
  for (const scope of scopes.splice(0)) await scope.close();
});

async function start(options: { forward?: ForwardOptions; zone?: Cell<Zone>; ip?: typeof loopback } = {}) {
  const scope = new Scope();
  scopes.push(scope);
  const metrics = new Metrics();
  const cell = options.zone ?? new Cell(zone);
  const server = await startDnsServer(
    {
      listen: [{ ip: options.ip ?? loopback, port: 0 }],
      zone: cell,
      ...(options.forward ? { forward: options.forward } : {}),
      log: silentLogger,
      metrics,
      clock: systemClock,
    },
    scope,
  );
  return { address: server.addresses[0]!, cell, metrics, scope };
}

const query = (name: string, id = 1, edns = false) =>
  dnsPacket.encode({
    type: "query",
    id,
    flags: 256,
    questions: [{ type: "A", name }],
    additionals: (edns
      ? [{ type: "OPT", name: ".", udpPayloadSize: 1232, extendedRcode: 0, ednsVersion: 0, flags: 0, options: [] }]
      : []) as never,
  });

/** One datagram there and one back. */
function askUdp(address: SocketAddress, bytes: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(address.ip.includes(":") ? "udp6" : "udp4");
    onTestFinished(() => new Promise<void>((closed) => socket.close(() => closed())));
    socket.on("error", reject);
    socket.on("message", resolve);
    socket.send(bytes, address.port, address.ip);
  });
}

const rcodeOf = (reply: Buffer) => reply[3]! & 15;
const firstAddress = (reply: Buffer) => (dnsPacket.decode(reply).answers![0] as { data: string } | undefined)?.data;

/** A name server that does what a test says, and remembers what it was asked. */
async function upstream(answer: (request: Buffer, reply: (bytes: Buffer) => void) => void) {
  const socket = createSocket("udp4");
  const asked: Array<{ id: number; port: number; name: string }> = [];
  socket.on("message", (request, from) => {
    asked.push({ id: request.readUInt16BE(0), port: from.port, name: dnsPacket.decode(request).questions![0]!.name });
    answer(request, (bytes) => socket.send(bytes, from.port, from.address));
  });
  await new Promise<void>((bound) => socket.bind(0, "127.0.0.1", bound));
  onTestFinished(() => new Promise<void>((closed) => socket.close(() => closed())));
  const address: SocketAddress = { ip: loopback, port: socket.address().port };
  return { address, asked };
}

function answered(request: Buffer, options: { ttl?: number; count?: number; flags?: number } = {}): Buffer {
  const { id = 0, questions = [] } = dnsPacket.decode(request);
  const answers = Array.from({ length: options.count ?? 1 }, (_, i) => ({
    type: "A" as const,
    name: questions[0]!.name,
    ttl: options.ttl ?? 60,
    data: `192.0.2.${i + 1}`,
  }));
  return dnsPacket.encode({ type: "response", id, flags: options.flags ?? 0x180, questions, answers });
}

describe("names of the mesh", () => {
  test("a change of the zone holds from the next query on", async () => {
    const { address, cell } = await start();
    expect(firstAddress(await askUdp(address, query("httpbin.bar.global")))).toBe("240.0.0.2");
    cell.set(buildZone({ suffixes, names: [entry("httpbin.bar.global", "240.0.0.9")] }));
    expect(firstAddress(await askUdp(address, query("httpbin.bar.global")))).toBe("240.0.0.9");
    cell.set(buildZone({ suffixes, names: [] }));
    expect(rcodeOf(await askUdp(address, query("httpbin.bar.global")))).toBe(3);
  });
  test("are served over IPv6 as well", async () => {
    const { address } = await start({ ip: parseIp("::1")! });
    expect(firstAddress(await askUdp(address, query("httpbin.bar.global")))).toBe("240.0.0.2");
  });
  test("are answered while all other servers are silent", async () => {
    const silent = await upstream(() => {});
    const { address } = await start({ forward: { servers: [silent.address] } });
    const waiting = Array.from({ length: 20 }, (_, i) => query(`other${i}.example.com`));
    const socket = createSocket("udp4");
    onTestFinished(() => new Promise<void>((closed) => socket.close(() => closed())));
    for (const bytes of waiting) socket.send(bytes, address.port, address.ip);
    await expect.poll(() => silent.asked.length).toBe(20);
    const from = performance.now();
    await askUdp(address, query("httpbin.bar.global"));
    expect(performance.now() - from).toBeLessThan(200);
  });
  test("what became of each query is counted", async () => {
    const { address, metrics } = await start();
    await askUdp(address, query("httpbin.bar.global"));
    await askUdp(address, query("nothing.bar.global"));
    const text = await metrics.text();
    expect(text).toContain('isthmus_dns_queries_total{transport="udp",outcome="answer"} 1');
    expect(text).toContain('isthmus_dns_queries_total{transport="udp",outcome="no-name"} 1');
  });
});

describe("over TCP", () => {
  const framed = (bytes: Uint8Array) => Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
  /** Sends pieces one after another, half-closes if told so, and reads until the server ends. */
  function exchange(address: SocketAddress, pieces: readonly Buffer[], halfClose = true): Promise<Buffer[]> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port: address.port, host: address.ip, allowHalfOpen: true, noDelay: true });
      let got = Buffer.alloc(0);
      socket.on("data", (chunk: Buffer) => {
        got = Buffer.concat([got, chunk]);
      });
      socket.on("error", reject);
      socket.on("close", () => {
        const messages: Buffer[] = [];
        for (let at = 0; at + 2 <= got.length; at += 2 + got.readUInt16BE(at)) {
          messages.push(got.subarray(at + 2, at + 2 + got.readUInt16BE(at)));
        }
        resolve(messages);
      });
      socket.on("end", () => socket.end());
      for (const piece of pieces) socket.write(piece);
      if (halfClose) socket.end();
    });
  }
  test("many queries in one go are all answered, also after the client has ended its side", async () => {
    const { address } = await start();
    const queries = Array.from({ length: 500 }, (_, id) => framed(query("httpbin.bar.global", id)));
    const replies = await exchange(address, [Buffer.concat(queries)]);
    expect(replies.map((reply) => reply.readUInt16BE(0))).toEqual(Array.from({ length: 500 }, (_, id) => id));
  });
  test("a query that comes byte by byte is a query", async () => {
    const { address } = await start();
    const bytes = framed(query("many.bar.global"));
    const [reply] = await exchange(
      address,
      [...bytes].map((byte) => Buffer.from([byte])),
    );
    expect(dnsPacket.decode(reply!).answers!.length).toBe(200);
  });
  test("what is no query ends the connection", async () => {
    const { address } = await start();
    expect(await exchange(address, [Buffer.from([0, 3, 1, 2, 3])], false)).toEqual([]);
  });
  test("answers that another server gives come in the order in which they come", async () => {
    const held: Array<() => void> = [];
    const server = await upstream((request, reply) => {
      held.push(() => reply(answered(request)));
      if (held.length === 3) for (const send of held.reverse()) send();
    });
    const { address } = await start({ forward: { servers: [server.address] } });
    const replies = await exchange(
      address,
      [1, 2, 3].map((id) => framed(query(`n${id}.example.com`, id))),
    );
    expect(replies.map((reply) => reply.readUInt16BE(0)).sort()).toEqual([1, 2, 3]);
  });
});

describe("names of others", () => {
  test("are asked for with another id from another port each time, and kept", async () => {
    const server = await upstream((request, reply) => reply(answered(request)));
    const { address } = await start({ forward: { servers: [server.address] } });
    for (let i = 0; i < 8; i++) {
      expect(firstAddress(await askUdp(address, query(`n${i}.example.com`, 42)))).toBe("192.0.2.1");
    }
    expect(new Set(server.asked.map(({ id }) => id)).size).toBeGreaterThan(1);
    expect(new Set(server.asked.map(({ port }) => port)).size).toBeGreaterThan(1);
    const again = await askUdp(address, query("N0.example.com", 43));
    expect([again.readUInt16BE(0), server.asked.length]).toEqual([43, 8]);
  });
  test("a reply with another id, or to another question, changes nothing", async () => {
    const server = await upstream((request, reply) => {
      const wrongId = answered(request);
      wrongId.writeUInt16BE(wrongId.readUInt16BE(0) ^ 1, 0);
      reply(wrongId);
      const other = answered(query("evil.example.com"));
      request.copy(other, 0, 0, 2);
      reply(other);
      reply(answered(request, { count: 2 }));
    });
    const { address } = await start({ forward: { servers: [server.address] } });
    expect(dnsPacket.decode(await askUdp(address, query("a.example.com"))).answers!.length).toBe(2);
  });
  test("when one server is silent the next is asked, and from then on first", async () => {
    const silent = await upstream(() => {});
    const good = await upstream((request, reply) => reply(answered(request)));
    const { address } = await start({ forward: { servers: [silent.address, good.address], tryMs: 50 } });
    expect(firstAddress(await askUdp(address, query("a.example.com")))).toBe("192.0.2.1");
    expect(firstAddress(await askUdp(address, query("b.example.com")))).toBe("192.0.2.1");
    expect([silent.asked.length, good.asked.length]).toEqual([1, 2]);
  });
  test("when all are silent the answer is SERVFAIL, in time", async () => {
    const silent = await upstream(() => {});
    const { address } = await start({ forward: { servers: [silent.address], tryMs: 30, totalMs: 100 } });
    const from = performance.now();
    expect(rcodeOf(await askUdp(address, query("a.example.com")))).toBe(2);
    expect(performance.now() - from).toBeLessThan(1000);
  });
  test("when nobody is there the answer is SERVFAIL", async () => {
    const { address } = await start({ forward: { servers: [{ ip: loopback, port: 1 }], tryMs: 200, totalMs: 400 } });
    expect(rcodeOf(await askUdp(address, query("a.example.com")))).toBe(2);
  });
  test("a server's refusal is passed on only when no other knows better", async () => {
    const refusing = await upstream((request, reply) => reply(answered(request, { count: 0, flags: 0x185 })));
    const good = await upstream((request, reply) => reply(answered(request)));
    const both = await start({ forward: { servers: [refusing.address, good.address] } });
    expect(firstAddress(await askUdp(both.address, query("a.example.com")))).toBe("192.0.2.1");
    const alone = await start({ forward: { servers: [refusing.address] } });
    expect(rcodeOf(await askUdp(alone.address, query("a.example.com")))).toBe(5);
  });
  test("beyond the most that may wait, a question fails at once", async () => {
    const silent = await upstream(() => {});
    const { address } = await start({
      forward: { servers: [silent.address], mostPending: 2, tryMs: 5000, totalMs: 5000 },
    });
    const socket = createSocket("udp4");
    onTestFinished(() => new Promise<void>((closed) => socket.close(() => closed())));
    for (const name of ["a", "b"]) socket.send(query(`${name}.example.com`), address.port, address.ip);
    await expect.poll(() => silent.asked.length).toBe(2);
    expect(rcodeOf(await askUdp(address, query("c.example.com")))).toBe(2);
  });
  test("the same question asked by many at once is asked once", async () => {
    let release = () => {};
    const server = await upstream((request, reply) => {
      release = () => reply(answered(request));
    });
    const { address } = await start({ forward: { servers: [server.address] } });
    const asking = [1, 2, 3].map((id) => askUdp(address, query("a.example.com", id)));
    await expect.poll(() => server.asked.length).toBe(1);
    // A query of the mesh behind them: when it is answered, theirs have been read.
    await askUdp(address, query("httpbin.bar.global"));
    release();
    expect((await Promise.all(asking)).map((reply) => reply.readUInt16BE(0))).toEqual([1, 2, 3]);
    expect(server.asked.length).toBe(1);
  });
  test("a reply that was cut short is fetched over TCP, and cut for who takes less", async () => {
    const server = await upstream((request, reply) => reply(answered(request, { count: 0, flags: 0x380 })));
    const tcp = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", (chunk: Buffer) => {
        const bytes = answered(chunk.subarray(2), { count: 30 });
        socket.write(Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]));
      });
    });
    await new Promise<void>((bound) => tcp.listen(server.address.port, "127.0.0.1", bound));
    onTestFinished(() => void tcp.close());
    expect((tcp.address() as AddressInfo).port).toBe(server.address.port);
    const { address } = await start({ forward: { servers: [server.address] } });
    const small = await askUdp(address, query("a.example.com"));
    expect([small.length <= 512, (small[2]! & 2) !== 0]).toEqual([true, true]);
    expect(dnsPacket.decode(await askUdp(address, query("a.example.com", 1, true))).answers!.length).toBe(30);
  });
  test("this server itself is not asked", async () => {
    const scope = new Scope();
    scopes.push(scope);
    const { address, scope: earlier } = await start();
    await earlier.close();
    const deps = { zone: new Cell(zone), log: silentLogger, metrics: new Metrics(), clock: systemClock };
    await startDnsServer({ ...deps, listen: [address], forward: { servers: [address] } }, scope);
    expect(rcodeOf(await askUdp(address, query("a.example.com")))).toBe(5);
  });
});

describe("starting and stopping", () => {
  test("an address that is taken is a failure that says so, and leaves nothing open", async () => {
    const { address } = await start();
    const scope = new Scope();
    scopes.push(scope);
    const deps = { zone: new Cell(zone), log: silentLogger, metrics: new Metrics(), clock: systemClock };
    const listen = [{ ip: loopback, port: 0 }, address];
    await expect(startDnsServer({ ...deps, listen }, scope)).rejects.toMatchObject({
      code: "dns/listen-failed",
      message: `listening for DNS on "127.0.0.1:${address.port}" (udp): something else listens there`,
    });
  });
  test("an address of another machine is a failure that says so", async () => {
    const scope = new Scope();
    scopes.push(scope);
    const deps = { zone: new Cell(zone), log: silentLogger, metrics: new Metrics(), clock: systemClock };
    const listen = [{ ip: parseIp("192.0.2.1")!, port: 0 }];
    await expect(startDnsServer({ ...deps, listen }, scope)).rejects.toThrow("this machine has no such address");
  });
  test("it stops while questions wait, and the port is free again", async () => {
    const silent = await upstream(() => {});
    const { address, scope } = await start({ forward: { servers: [silent.address] } });
    const socket = createSocket("udp4");
    socket.send(query("a.example.com"), address.port, address.ip);
    await expect.poll(() => silent.asked.length).toBe(1);
    await scope.close();
    await new Promise<void>((closed) => socket.close(() => closed()));
    const probe = createSocket("udp4");
    await new Promise<void>((bound) => probe.bind(address.port, address.ip, bound));
    await new Promise<void>((closed) => probe.close(() => closed()));
  });
});

const dig = spawnSync("dig", ["-v"]).status === 0;
if (!dig) process.stderr.write("\nSKIPPED: the tests with dig (package dnsutils), which is not installed\n");

describe.skipIf(!dig)("dig is told", () => {
  const run = promisify(execFile);
  const rows = [
    { it: "the address", args: ["httpbin.bar.global", "+short"], gets: /^240\.0\.0\.2\n$/ },
    {
      it: "no data for AAAA",
      args: ["httpbin.bar.global", "AAAA"],
      gets: /status: NOERROR[\s\S]*ANSWER: 0, AUTHORITY: 1[\s\S]*\sSOA\s/,
    },
    { it: "no data for HTTPS", args: ["httpbin.bar.global", "TYPE65"], gets: /status: NOERROR[\s\S]*ANSWER: 0/ },
    { it: "no data for ANY", args: ["httpbin.bar.global", "ANY", "+notcp"], gets: /status: NOERROR[\s\S]*ANSWER: 0/ },
    { it: "no such name", args: ["nothing.bar.global"], gets: /status: NXDOMAIN[\s\S]*global\.\s+5\s+IN\s+SOA/ },
    { it: "the case as asked", args: ["HtTpBiN.bar.GLOBAL"], gets: /HtTpBiN\.bar\.GLOBAL\.\s+30\s+IN\s+A\s+240/ },
    {
      it: "all of a long answer, by TCP by itself",
      args: ["many.bar.global", "+short"],
      gets: /^(240\.1\.0\.\d+\n){200}$/,
    },
    { it: "a long answer cut short", args: ["many.bar.global", "+ignore", "+noedns"], gets: /flags: qr aa tc rd/ },
    {
      it: "the version of EDNS",
      args: ["httpbin.bar.global", "+edns=1", "+noednsnegotiation"],
      gets: /status: BADVERS/,
    },
    {
      it: "two answers over one connection",
      args: ["+tcp", "+keepopen", "+short", "httpbin.bar.global", "httpbin.bar.global"],
      gets: /^(240\.0\.0\.2\n){2}$/,
    },
    { it: "no whole zones", args: ["global", "AXFR"], gets: /Transfer failed/ },
  ];
  for (const { it, args, gets } of rows) {
    test(it, async () => {
      const { address } = await start();
      const { stdout } = await run("dig", ["@127.0.0.1", "-p", String(address.port), "+tries=1", "+time=3", ...args]);
      expect(stdout).toMatch(gets);
      expect(stdout).not.toMatch(/WARNING: (?!recursion requested)|malformed/i);
    });
  }
});
