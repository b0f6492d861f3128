import { defineConfig } from "vitest/config";

// One lab per data plane, one after the other: they share the machine's processors.
export default defineConfig({
  test: {
    root: new URL("../..", import.meta.url).pathname,
    include: ["checks/scenarios/run/*.test.ts"],
    fileParallelism: false,
    maxWorkers: 1,
    // Longer than all waits of a scenario: one that is over time goes on in the lab that it shares.
    testTimeout: 300_000,
    // Shares, times and health hang on a machine that others use too. The tally names what needed the second run, and why.
    retry: 1,
    hookTimeout: 400_000,
    reporters: ["verbose", "./checks/tally.ts"],
  },
});
