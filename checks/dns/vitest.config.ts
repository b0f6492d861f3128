import { defineConfig } from "vitest/config";

// Real API servers and a real CoreDNS that reads what is written there.
export default defineConfig({
  test: {
    root: new URL("../..", import.meta.url).pathname,
    include: ["checks/dns/*.real.ts"],
    fileParallelism: false,
    maxWorkers: 1,
    retry: 1,
    testTimeout: 180_000,
    hookTimeout: 300_000,
    reporters: ["verbose", "./checks/tally.ts"],
  },
});
