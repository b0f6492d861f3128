import type { Socket } from "node:net";
import { dial } from "./dial.ts";
import { ClosedEarly, type Result, type TcpOrder, within } from "./order.ts";

/** Sends the text as a line and reads until it is answered. The first line says who answers, the others are messages. */
export async function callTcp(order: TcpOrder, timeoutMs: number): Promise<Partial<Result>> {
  let socket: Socket | undefined;
  const work = async () => {
    const own = await dial(order.to, { tls: order.tls });
    socket = own;
    return new Promise<Partial<Result>>((resolve, reject) => {
      let text = "";
      own.setEncoding("utf8");
      own.on("error", reject);
      own.on("data", (part: string) => {
        text += part;
        const [first = "", ...others] = text.split("\n");
        if (!others.join("\n").includes(`${order.send}\n`)) return;
        const messages = others.filter((line) => line !== "");
        resolve({ servedBy: first, messages, ...(own.localPort === undefined ? {} : { localPort: own.localPort }) });
      });
      own.on("end", () => reject(new ClosedEarly(`the connection ended after ${JSON.stringify(text.slice(0, 200))}`)));
      own.write(`${order.send}\n`);
    });
  };
  try {
    return await within(timeoutMs, work(), () => socket?.destroy());
  } finally {
    socket?.destroy();
  }
}
