// The outside's DNS of a lab: `resolver-main.js IP:PORT TABLE`. Knows the names in a JSON file (name to IPv4 address),
// over UDP and TCP, and says of every other name that there is none.
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { systemClock } from "../base/index.ts";
import { answerQuery } from "./resolver.ts";

const [listen = "", table = ""] = process.argv.slice(2);
const split = listen.lastIndexOf(":");
const host = listen.slice(0, split);
const port = Number(listen.slice(split + 1));
const addresses = new Map(Object.entries(JSON.parse(readFileSync(table, "utf8")) as Record<string, string>));

const udp = createSocket("udp4");
udp.on("message", (query, from) => {
  const answer = answerQuery(query, addresses);
  if (answer) udp.send(answer, from.port, from.address);
});
udp.bind(port, host);

createServer((socket) => {
  let pending = Buffer.alloc(0);
  const patience = systemClock.after(10_000, () => socket.destroy());
  socket.on("close", () => patience.cancel());
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    // Each message over TCP has its length in two bytes before it (RFC 1035 §4.2.2).
    while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
      const length = pending.readUInt16BE(0);
      const answer = answerQuery(pending.subarray(2, 2 + length), addresses);
      pending = pending.subarray(2 + length);
      if (!answer) return void socket.destroy();
      const size = Buffer.alloc(2);
      size.writeUInt16BE(answer.length);
      socket.write(Buffer.concat([size, answer]));
    }
  });
}).listen(port, host);
