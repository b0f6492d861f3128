import { connect, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { parseTarget } from "../target.ts";
import type { TlsOrder } from "./order.ts";

/** A connection to `HOST:PORT`, with the TLS that was asked for on it. */
export function dial(
  to: string,
  options: { readonly tls?: TlsOrder | undefined; readonly alpn?: readonly string[] } = {},
): Promise<Socket> {
  const { host, port } = parseTarget(to);
  const { tls, alpn } = options;
  return new Promise((resolve, reject) => {
    const socket = tls
      ? connectTls({
          host,
          port,
          rejectUnauthorized: tls.ca !== undefined,
          ...(tls.sni === undefined ? {} : { servername: tls.sni }),
          ...(tls.ca === undefined ? {} : { ca: tls.ca }),
          ...(tls.cert === undefined ? {} : { cert: tls.cert, key: tls.key }),
          ...(tls.minVersion === undefined ? {} : { minVersion: tls.minVersion }),
          ...(tls.maxVersion === undefined ? {} : { maxVersion: tls.maxVersion }),
          ...(alpn ? { ALPNProtocols: [...alpn] } : {}),
        })
      : connect({ host, port, noDelay: true });
    socket.once("error", reject);
    socket.once(tls ? "secureConnect" : "connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}

/** The protocol that both sides chose, where there was a choice. */
export function chosenProtocol(socket: Socket): string | undefined {
  const { alpnProtocol } = socket as TLSSocket;
  return alpnProtocol === false ? undefined : (alpnProtocol ?? undefined);
}
