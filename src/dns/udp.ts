import { createSocket, type Socket } from "node:dgram";
import type { Logger, Scope } from "../base/index.ts";
import { formatSocketAddress, ipFamily, type SocketAddress } from "../values/index.ts";
import { type Answerer, listenFailure } from "./listen.ts";

/** Serves until the scope closes, and gives the port that was bound. */
export function serveUdp(
  address: SocketAddress,
  serving: { readonly answer: Answerer; readonly log: Logger; readonly scope: Scope },
): Promise<number> {
  const { answer, log, scope } = serving;
  const family = ipFamily(address.ip);
  const socket = createSocket({
    type: family === 4 ? "udp4" : "udp6",
    ipv6Only: family === 6,
    recvBufferSize: 1 << 20,
    // Where a reply goes is an address already: the usual lookup would cost a turn of the event loop each.
    lookup: (host, _options, done) => done(null, host, family),
  });
  return new Promise((resolve, reject) => {
    const refuse = (cause: Error) => {
      socket.close();
      reject(listenFailure(address, "udp", cause));
    };
    socket.once("error", refuse);
    socket.bind({ port: address.port, address: address.ip, exclusive: true }, () => {
      socket.off("error", refuse);
      socket.on("error", (error) =>
        log.warn({ address: formatSocketAddress(address), err: error }, "dns socket failed"),
      );
      socket.on("message", (request, from) => {
        const reply = answer(request, "udp");
        if (reply === undefined) return;
        if (!(reply instanceof Promise)) {
          send(socket, { reply, port: from.port, ip: from.address });
          return;
        }
        reply.then(
          (bytes) => {
            if (!scope.closed) send(socket, { reply: bytes, port: from.port, ip: from.address });
          },
          (error: unknown) => log.error({ err: error }, "dns query failed"),
        );
      });
      scope.defer(() => new Promise<void>((closed) => socket.close(() => closed())));
      resolve(socket.address().port);
    });
  });
}

/** A reply that cannot be sent is lost like any other datagram; the client asks again. */
const ignoreLoss = () => {};

function send(socket: Socket, to: { readonly reply: Buffer; readonly port: number; readonly ip: string }): void {
  // Nothing can be sent to port 0, which a forged query may claim to come from.
  if (to.port === 0) return;
  socket.send(to.reply, to.port, to.ip, ignoreLoss);
}
