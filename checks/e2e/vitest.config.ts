import { defineConfig } from "vitest/config";

// Whole programs in whole labs, from dist/: one after the other, because they share the machine's processors.
export default defineConfig({
  test: {
    root: new URL("../..", import.meta.url).pathname,
    include: ["checks/e2e/**/*.test.ts"],
    fileParallelism: false,
    maxWorkers: 1,
    // Whole programs on a machine that others use too. The tally names what needed the second run, and why.
    retry: 1,
    testTimeout: 180_000,
    hookTimeout: 180_000,
    reporters: ["verbose", "./checks/tally.ts"],
  },
});
