import { defineConfig } from "vitest/config";

// One lab for minutes: `npm run test:soak -- --seconds 120 --seed 1 --data-plane embedded|envoy|mixed`.
export default defineConfig({
  test: {
    root: new URL("../..", import.meta.url).pathname,
    include: ["checks/soak/soak.test.ts"],
    fileParallelism: false,
    maxWorkers: 1,
    // Whole programs on a machine that others use too. The tally names what needed the second run, and why.
    retry: 1,
    testTimeout: 4_000_000,
    hookTimeout: 60_000,
    reporters: ["verbose", "./checks/tally.ts"],
  },
});
