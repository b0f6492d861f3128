import { request } from "node:http";
import { connect, isIP, type Socket } from "node:net";

/** How an application leaves its pod: directly, or by a proxy that the environment names. */
export type Way =
  | { readonly kind: "direct" }
  | { readonly kind: "connect" | "socks5"; readonly host: string; readonly port: number };

/**
 * The way out as the usual variables say: `ALL_PROXY` (`socks5://`, `socks5h://` or `http://`) before `HTTP_PROXY`.
 * Names are left to the proxy to resolve either way.
 */
export function wayOut(env: NodeJS.ProcessEnv = process.env): Way {
  const text = env["ALL_PROXY"] || env["all_proxy"] || env["HTTP_PROXY"] || env["http_proxy"];
  if (!text) return { kind: "direct" };
  const url = new URL(text.includes("://") ? text : `http://${text}`);
  const kind = url.protocol.startsWith("socks") ? "socks5" : "connect";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return { kind, host, port: Number(url.port) || (kind === "socks5" ? 1080 : 80) };
}

/** A TCP connection to `host`, perhaps by a proxy. Each side may end before the other. */
export function dial(host: string, port: number, way: Way = wayOut()): Promise<Socket> {
  switch (way.kind) {
    case "direct":
      return open(host, port);
    case "connect":
      return dialByConnect(host, port, way);
    case "socks5":
      return dialBySocks5(host, port, way);
  }
}

function open(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}

function dialByConnect(host: string, port: number, proxy: { host: string; port: number }): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const target = isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
    const call = request({
      ...{
        host: proxy.host,
        port: proxy.port,
        method: "CONNECT",
        path: target,
        headers: { host: target },
        agent: false,
      },
    });
    call.once("error", reject);
    call.once("response", (response) => {
      response.resume();
      reject(new Error(`the proxy refused "${target}" with ${response.statusCode}`));
    });
    call.once("connect", (response, socket, head) => {
      if (response.statusCode !== 200) {
        socket.destroy();
        return reject(new Error(`the proxy refused "${target}" with ${response.statusCode}`));
      }
      (socket as Socket).allowHalfOpen = true;
      if (head.length > 0) socket.unshift(head);
      resolve(socket as Socket);
    });
    call.end();
  });
}

/** RFC 1928, without authentication, with the name sent as a name. */
async function dialBySocks5(host: string, port: number, proxy: { host: string; port: number }): Promise<Socket> {
  const socket = await open(proxy.host, proxy.port);
  try {
    socket.write(Buffer.from([5, 1, 0]));
    const method = await readExactly(socket, 2);
    if (method[0] !== 5 || method[1] !== 0) throw new Error("the SOCKS proxy wants a password");
    const name = Buffer.from(host);
    socket.write(Buffer.concat([Buffer.from([5, 1, 0, 3, name.length]), name, Buffer.from([port >> 8, port & 255])]));
    const reply = await readExactly(socket, 4);
    if (reply[1] !== 0) throw new Error(`the SOCKS proxy refused "${host}:${port}" with code ${reply[1]}`);
    const addressLength = reply[3] === 1 ? 4 : reply[3] === 4 ? 16 : (await readExactly(socket, 1))[0]!;
    await readExactly(socket, addressLength + 2);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function readExactly(socket: Socket, length: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const take = () => {
      const bytes: Buffer | null = socket.read(length);
      if (bytes === null) return;
      stop();
      if (bytes.length < length) return reject(new Error("the connection ended early"));
      resolve(bytes);
    };
    const stop = () => {
      socket.off("readable", take);
      socket.off("end", onEnd);
      socket.off("error", onError);
    };
    const onEnd = () => {
      stop();
      reject(new Error("the connection ended early"));
    };
    const onError = (error: Error) => {
      stop();
      reject(error);
    };
    socket.on("readable", take);
    socket.on("end", onEnd);
    socket.on("error", onError);
    take();
  });
}
