import { defineConfig } from "vitest/config";

// Our chart, read by a real Helm.
export default defineConfig({
  test: {
    root: new URL("../..", import.meta.url).pathname,
    include: ["checks/helm/*.test.ts"],
    // A program that takes a second each time, on a machine that others use too.
    retry: 1,
    testTimeout: 120_000,
    reporters: ["verbose", "./checks/tally.ts"],
  },
});
