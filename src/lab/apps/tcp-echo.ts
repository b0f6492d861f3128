// A TCP echo, and a client for it.
//   tcp-echo.js [PORTS] [PREFIX]        serves; PREFIX and a space go in front of each line, as the well-known sample does
//   tcp-echo.js client HOST:PORT [TEXT] sends TEXT (or standard input), half-closes, prints all that comes back
// Environment: PORT (9000), HOST, GREETING: a line that the server says before it hears anything.
import { createServer, type Server } from "node:net";
import { dial } from "./dial.ts";
import { fail, portsFrom, serveUntilStopped } from "./serve.ts";
import { isProgram, parseTarget } from "./target.ts";

export function tcpEchoServer(options: { readonly prefix?: string; readonly greeting?: string } = {}): Server {
  const { prefix, greeting } = options;
  return createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    if (greeting) socket.write(`${greeting}\n`);
    if (!prefix) {
      socket.pipe(socket);
      return;
    }
    let atLineStart = true;
    socket.on("data", (chunk: Buffer) => {
      // Bytes are passed on as they come; only line starts are marked, so that a line of any length needs no memory.
      for (let from = 0; from < chunk.length; ) {
        const newline = chunk.indexOf(10, from);
        const to = newline < 0 ? chunk.length : newline + 1;
        if (atLineStart) socket.write(`${prefix} `);
        if (!socket.write(chunk.subarray(from, to))) socket.pause();
        atLineStart = newline >= 0;
        from = to;
      }
    });
    socket.on("drain", () => socket.resume());
    socket.on("end", () => socket.end());
  });
}

async function client(target: string, text: string | undefined): Promise<void> {
  const { host, port } = parseTarget(target);
  const socket = await dial(host, port);
  socket.on("error", (error) => fail(`tcp-echo: ${error.message}`));
  socket.pipe(process.stdout);
  if (text === undefined) process.stdin.pipe(socket);
  else socket.end(`${text}\n`);
}

if (isProgram(import.meta.url)) {
  const [first, second, third] = process.argv.slice(2);
  if (first === "client") {
    if (!second) fail("usage: tcp-echo client HOST:PORT [TEXT]");
    client(second, third).catch((error: Error) => fail(`tcp-echo: "${second}": ${error.message}`));
  } else {
    const prefix = second ?? process.env["PREFIX"];
    const greeting = process.env["GREETING"];
    const options = { ...(prefix ? { prefix } : {}), ...(greeting ? { greeting } : {}) };
    const ports = portsFrom(first ?? process.env["PORT"] ?? "9000");
    void serveUntilStopped(
      "tcp-echo",
      ports.map((port) => ({ port, server: tcpEchoServer(options) })),
    );
  }
}
