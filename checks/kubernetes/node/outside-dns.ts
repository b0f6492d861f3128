import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import type { Scope } from "../../../src/base/index.ts";
import { answerQuery } from "../../../src/lab/resolver.ts";

/** Names outside the clusters: load balancers, as `<service>.<namespace>.<cluster>.test`. */
export interface OutsideNames {
  set(cluster: string, loadBalancers: ReadonlyMap<string, string>): void;
}

/** A DNS server outside the clusters, over UDP and TCP, which says of every other name that there is none. */
export async function startOutsideDns(host: string, scope: Scope): Promise<OutsideNames> {
  const byCluster = new Map<string, ReadonlyMap<string, string>>();
  let addresses: ReadonlyMap<string, string> = new Map();
  const udp = createSocket("udp4");
  udp.on("error", () => {});
  udp.on("message", (query, from) => {
    const answer = answerQuery(query, addresses);
    if (answer) udp.send(answer, from.port, from.address);
  });
  const tcp = createServer((socket) => {
    let pending = Buffer.alloc(0);
    socket.setTimeout(10_000, () => socket.destroy());
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
  });
  await new Promise<void>((resolve, reject) => {
    tcp.once("error", reject);
    tcp.listen(53, host, () => udp.bind(53, host, resolve));
  });
  scope.defer(() => {
    udp.close();
    tcp.close();
  });
  return {
    set: (cluster, loadBalancers) => {
      byCluster.set(cluster, loadBalancers);
      addresses = new Map(
        [...byCluster].flatMap(([name, all]) =>
          [...all].map(([key, ip]) => {
            const [namespace, service] = key.split("/");
            return [`${service}.${namespace}.${name}.test`, ip] as const;
          }),
        ),
      );
    },
  };
}
