import { defineConfig } from "vitest/config";

// Attacks on running proxies. One after the other: each watches what its own does to memory and descriptors.
export default defineConfig({
  test: {
    root: new URL("../..", import.meta.url).pathname,
    include: ["checks/hostile/**/*.test.ts"],
    globalSetup: ["checks/hostile/testing/setup.ts"],
    fileParallelism: false,
    maxWorkers: 1,
    reporters: ["default", "./checks/tally.ts"],
    // Whole programs on a machine that others use too. The tally names what needed the second run, and why.
    retry: 1,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
