import { defineConfig } from "vitest/config";

// Whole clusters, one after the other: each takes both processors of a small machine while it comes up.
export default defineConfig({
  test: {
    root: new URL("../..", import.meta.url).pathname,
    include: ["checks/kubernetes/*.test.ts"],
    fileParallelism: false,
    maxWorkers: 1,
    // Whole programs on a machine that others use too. The tally names what needed the second run, and why.
    retry: 1,
    testTimeout: 300_000,
    hookTimeout: 600_000,
    reporters: ["verbose", "./checks/tally.ts"],
  },
});
