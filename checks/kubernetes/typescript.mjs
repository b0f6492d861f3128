// Lets Node run this folder's TypeScript as it is: node --import ./checks/kubernetes/typescript.mjs FILE.ts
import { register } from "node:module";

register("./typescript-hooks.mjs", import.meta.url);
