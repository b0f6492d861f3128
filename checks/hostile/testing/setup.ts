import { transpiled } from "./transpile.mjs";

/** Before the first test: what the tests run as processes. */
export default function setup(): void {
  transpiled("checks/hostile/testing/victim.ts");
}
