import { get } from "node:http";
import { Command } from "commander";
import { type Clock, Failure, sleep, systemClock } from "../../base/index.ts";
import { parseDuration } from "../duration.ts";

/** `isthmus wait`: ends when the proxy beside it is ready, for who must not start before. */
export function waitCommand(): Command {
  return new Command("wait")
    .description("wait until a proxy is ready")
    .option("--url <url>", "what answers 200 when it is", "http://localhost:15021/healthz/ready")
    .option("--timeout <duration>", "how long to wait", "60s")
    .option("--every <duration>", "between two looks", "500ms")
    .action(async (flags: { readonly url: string; readonly timeout: string; readonly every: string }) => {
      if (!URL.canParse(flags.url) || new URL(flags.url).protocol !== "http:") {
        throw new Failure("usage/url", `--url: "${flags.url}" is no http URL`);
      }
      const timeoutMs = parseDuration(flags.timeout, "--timeout");
      await waitFor(new URL(flags.url), {
        timeoutMs,
        everyMs: parseDuration(flags.every, "--every"),
        clock: systemClock,
      });
    });
}

async function waitFor(
  url: URL,
  { timeoutMs, everyMs, clock }: { readonly timeoutMs: number; readonly everyMs: number; readonly clock: Clock },
): Promise<void> {
  const startMs = clock.monotonic();
  for (;;) {
    const leftMs = timeoutMs - (clock.monotonic() - startMs);
    const why = await problem(url, Math.max(1, Math.min(leftMs, 1_000)));
    if (why === undefined) return;
    if (clock.monotonic() - startMs + everyMs > timeoutMs) {
      throw new Failure("wait/not-ready", `not ready after ${timeoutMs} ms: ${why}`, {
        hint: "the log of the container istio-proxy says what it waits for",
      });
    }
    await sleep(clock, everyMs);
  }
}

/** Why it is not ready; undefined when it is. */
function problem(url: URL, timeoutMs: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const call = get(url, { agent: false, timeout: timeoutMs }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        if (text.length < 500) text += part;
      });
      response.on("end", () =>
        resolve(response.statusCode === 200 ? undefined : text.trim() || `status ${response.statusCode}`),
      );
      response.on("error", (error) => resolve(error.message));
    });
    call.on("timeout", () => call.destroy(new Error("no answer")));
    call.on("error", (error) => resolve(error.message));
  });
}
