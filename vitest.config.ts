import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // The tally names what needed the second run, and why.
    retry: 1,
    include: ["src/**/*.test.ts", "checks/**/*.test.ts"],
    // Whole-program tests share two cores and the machine's network namespaces; they have a run of their own;
    // so have the attacks, which measure the memory of what they attack.
    exclude: [
      "checks/e2e/**",
      "checks/hostile/**",
      "checks/scenarios/run/**",
      "checks/soak/soak.test.ts",
      // Real clusters and real CoreDNS programs, which are built first: `npm run test:kubernetes`.
      "checks/dns/**",
      // A real Helm, which is built first: the same.
      "checks/helm/**",
      "checks/kubernetes/*.test.ts",
      "node_modules/**",
    ],
    maxWorkers: 2,
    // No module keeps anything that a test could leave behind; to load them all anew for each file took most of the time.
    isolate: false,
    reporters: ["default", "./checks/tally.ts"],
    // A bound for what hangs, and no judgement: whole suites run beside each other on two cores.
    testTimeout: 60_000,
  },
});
