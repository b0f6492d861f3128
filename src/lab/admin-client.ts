import { request } from "node:http";

export interface AdminAnswer {
  /** 0 when nothing answered; `text` says why. */
  readonly status: number;
  readonly text: string;
}

const answerMs = 2_000;
const answerLimit = 64 * 1024 * 1024;

/** One question to a program's admin socket. A program that is not there is an answer, not a failure. */
export function askAdmin(socketPath: string, path: string): Promise<AdminAnswer> {
  return new Promise((resolve) => {
    const call = request({ socketPath, path, timeout: answerMs, headers: { host: "admin" } }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
        if (text.length > answerLimit) call.destroy(new Error("answer too long"));
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      response.on("error", (error) => resolve({ status: 0, text: error.message }));
    });
    call.on("timeout", () => call.destroy(new Error(`no answer in ${answerMs} ms`)));
    call.on("error", (error: NodeJS.ErrnoException) => {
      const starting = error.code === "ENOENT" || error.code === "ECONNREFUSED";
      resolve({ status: 0, text: starting ? "it does not listen yet" : error.message });
    });
    call.end();
  });
}
