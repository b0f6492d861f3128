// npm run fuzz -- NAME|all [seconds] [seed]: feeds one reader of strangers' bytes with damaged input for as long as one likes.
import { spawnSync } from "node:child_process";
import { transpiled } from "../checks/hostile/testing/transpile.mjs";

const { status } = spawnSync(process.execPath, [transpiled("fuzz/main.ts"), ...process.argv.slice(2)], { stdio: "inherit" });
process.exit(status ?? 1);
