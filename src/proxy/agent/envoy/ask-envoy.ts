import { request } from "node:http";
import { Failure } from "../../../base/index.ts";
import type { EnvoyAdmin } from "./bootstrap.ts";

export interface EnvoyAnswer {
  readonly status: number;
  readonly text: string;
}

const answerMs = 5_000;
const answerLimit = 256 * 1024 * 1024;

/** One call of Envoy's admin interface. Throws `envoy/admin` when nothing answers. */
export function askEnvoy(admin: EnvoyAdmin, method: "GET" | "POST", path: string): Promise<EnvoyAnswer> {
  const where = "path" in admin ? { socketPath: admin.path } : { host: admin.host, port: admin.port };
  return new Promise((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException) => {
      const starting = cause.code === "ENOENT" || cause.code === "ECONNREFUSED";
      const why = starting ? "it does not listen yet" : cause.message;
      reject(new Failure("envoy/admin", `Envoy's admin interface does not answer: ${why}`, { cause }));
    };
    const call = request(
      { ...where, method, path, agent: false, timeout: answerMs, headers: { host: "envoy" } },
      (response) => {
        const parts: Buffer[] = [];
        let size = 0;
        response.on("data", (part: Buffer) => {
          parts.push(part);
          size += part.length;
          if (size > answerLimit) call.destroy(new Error(`more than ${answerLimit} bytes`));
        });
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString("utf8") }),
        );
        response.on("error", failed);
      },
    );
    call.on("timeout", () => call.destroy(new Error(`nothing within ${answerMs} ms`)));
    call.on("error", failed);
    call.end();
  });
}
