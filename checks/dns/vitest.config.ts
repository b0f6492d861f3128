import { defineConfig } from "vitest/config";

// Real CoreDNS programs, and real API servers whose ConfigMaps they read.
export default defineConfig({
  test: {
    root: new URL("../..", import.meta.url).pathname,
    include: ["checks/dns/*.test.ts", "checks/dns/*.real.ts"],
    fileParallelism: false,
    maxWorkers: 1,
    retry: 1,
    testTimeout: 300_000,
    hookTimeout: 600_000,
    reporters: ["verbose", "./checks/tally.ts"],
  },
});
