import { expect, test } from "vitest";
import { dial, server } from "../testdata/scene.ts";
import { loadOriginalDestination, plainIp, readSockAddr } from "./original-dst.ts";

const linux = process.platform === "linux";

test.runIf(linux)("a connection that nobody redirected has no original destination", async () => {
  const read = loadOriginalDestination();
  const found = new Promise((resolve) => {
    void server((socket) => resolve(read(socket) ?? "none")).then((address) => dial(address));
  });
  expect(await found).toBe("none");
});

test("socket addresses of both families are read in the network's byte order", () => {
  const four = Buffer.alloc(28);
  four.writeUInt16LE(2, 0);
  four.writeUInt16BE(8000, 2);
  four.set([240, 0, 0, 2], 4);
  expect(readSockAddr(four)).toEqual({ ip: "240.0.0.2", port: 8000 });
  const six = Buffer.alloc(28);
  six.writeUInt16LE(10, 0);
  six.writeUInt16BE(15443, 2);
  six.set([0x20, 0x01, 0x0d, 0xb8], 8);
  six[23] = 1;
  expect(readSockAddr(six)).toEqual({ ip: "2001:db8::1", port: 15443 });
});

test("IPv4 inside IPv6 is IPv4, and a zone is no part of an address", () => {
  expect(plainIp("::ffff:10.0.0.1")).toBe("10.0.0.1");
  expect(plainIp("fe80::1%eth0")).toBe("fe80::1");
  expect(plainIp(undefined)).toBeUndefined();
});
