import { request } from "node:http";
import { type ClientHttp2Session, connect } from "node:http2";
import type { Socket } from "node:net";
import { dial } from "./dial.ts";
import { ClosedEarly, type HttpOrder, type Result, within } from "./order.ts";

/** Bytes of a body that are told; the rest is counted. */
const toldBytes = 64 * 1024;

/** Calls of one order. With kept connections, as many as calls are in flight at a time. */
export class HttpCaller {
  readonly #order: HttpOrder;
  readonly #kept: boolean;
  readonly #timeoutMs: number;
  readonly #idle: Socket[] = [];
  #session: Promise<ClientHttp2Session> | undefined;

  constructor(order: HttpOrder, how: { readonly connection: "each" | "kept"; readonly timeoutMs: number }) {
    this.#order = order;
    this.#kept = how.connection === "kept";
    this.#timeoutMs = how.timeoutMs;
  }

  call(): Promise<Partial<Result>> {
    return this.#order.version === "2" ? this.#http2() : this.#http1();
  }

  close(): void {
    for (const socket of this.#idle) socket.destroy();
    void this.#session?.then(
      (session) => session.destroy(),
      () => {},
    );
  }

  async #dial(): Promise<Socket> {
    const { url, via, tls, version } = this.#order;
    const target = new URL(url);
    const secure = target.protocol === "https:";
    const host = target.hostname.replace(/^\[|\]$/g, "");
    const port = target.port || (secure ? "443" : "80");
    return dial(via ?? (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`), {
      tls: secure ? { ...tls, sni: tls?.sni ?? host } : undefined,
      alpn: version === "2" ? ["h2"] : ["http/1.1"],
    });
  }

  #body(): Buffer {
    const { body, bytes } = this.#order;
    return bytes === undefined ? Buffer.from(body ?? "") : Buffer.alloc(bytes, "x");
  }

  async #http1(): Promise<Partial<Result>> {
    const { url, method, headers } = this.#order;
    const target = new URL(url);
    let socket: Socket | undefined;
    const work = async () => {
      const own = this.#idle.pop() ?? (await this.#dial());
      socket = own;
      // A socket that is destroyed no longer knows it.
      const port = portOf(own);
      const body = this.#body();
      return new Promise<Partial<Result>>((resolve, reject) => {
        const call = request({
          createConnection: () => own,
          method,
          path: `${target.pathname}${target.search}`,
          headers: {
            host: target.host,
            ...headers,
            ...(body.length > 0 || method === "POST" || method === "PUT" ? { "content-length": body.length } : {}),
            connection: this.#kept ? "keep-alive" : "close",
          },
        });
        call.once("error", reject);
        // An answer may come before the whole body has gone: what the server thinks of the rest is no news then.
        call.once("response", (response) => {
          call.off("error", reject);
          call.on("error", () => {});
          collect(response)
            .then(({ text, bytes }) => {
              if (this.#kept && !own.destroyed) this.#idle.push(own);
              else own.destroy();
              resolve({
                status: response.statusCode ?? 0,
                headers: joined(response.headersDistinct),
                body: text,
                bytes,
                ...port,
              });
            })
            .catch(reject);
        });
        call.once("upgrade", () => reject(new ClosedEarly("upgraded without having asked for it")));
        call.end(body);
      });
    };
    try {
      return await within(this.#timeoutMs, work(), () => socket?.destroy());
    } catch (caught) {
      socket?.destroy();
      throw caught;
    }
  }

  async #http2(): Promise<Partial<Result>> {
    const { url, method, headers } = this.#order;
    const target = new URL(url);
    let session: ClientHttp2Session | undefined;
    const open = async () => {
      const socket = await this.#dial();
      const opened = connect(target.origin, { createConnection: () => socket });
      opened.on("error", () => {}); // Its streams say so too.
      return opened;
    };
    const work = async () => {
      this.#session = (this.#kept ? this.#session : undefined) ?? open();
      const own = await this.#session;
      session = own;
      return new Promise<Partial<Result>>((resolve, reject) => {
        const { host, ...others } = headers;
        const body = this.#body();
        const call = own.request(
          {
            ":method": method,
            ":path": `${target.pathname}${target.search}`,
            ":authority": host ?? target.host,
            ...others,
          },
          { endStream: body.length === 0 },
        );
        let answered = false;
        call.once("error", reject);
        call.once("response", (answer) => {
          answered = true;
          collect(call)
            .then(({ text, bytes }) => {
              const status = Number(answer[":status"]);
              resolve({ status, headers: joined(answer), body: text, bytes, ...portOf(own.socket as Socket) });
            })
            .catch(reject);
        });
        call.once("close", () => {
          if (!answered) reject(new ClosedEarly("the stream ended without an answer"));
        });
        if (body.length > 0) call.end(body);
      });
    };
    try {
      return await within(this.#timeoutMs, work(), () => session?.destroy());
    } finally {
      if (!this.#kept) session?.destroy();
    }
  }
}

function portOf(socket: Socket | undefined): { readonly localPort?: number } {
  return socket?.localPort === undefined ? {} : { localPort: socket.localPort };
}

function joined(headers: NodeJS.Dict<string | string[]>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => !name.startsWith(":"))
      .map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : String(value)]),
  );
}

function collect(body: NodeJS.ReadableStream): Promise<{ readonly text: string; readonly bytes: number }> {
  return new Promise((resolve, reject) => {
    const held: Buffer[] = [];
    let bytes = 0;
    body.on("data", (chunk: Buffer) => {
      if (bytes < toldBytes) held.push(chunk.subarray(0, toldBytes - bytes));
      bytes += chunk.length;
    });
    body.once("end", () => resolve({ text: Buffer.concat(held).toString(), bytes }));
    body.once("error", reject);
    body.once("aborted", () => reject(new ClosedEarly("the answer ended before its end")));
  });
}
