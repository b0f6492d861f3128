// Names the packages in an image that its lock file has for development only: node development.mjs REPOSITORY IMAGE
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const [repository, image] = process.argv.slice(2);
const { packages } = JSON.parse(readFileSync(join(repository, "package-lock.json"), "utf8"));
const found = Object.entries(packages)
  .filter(([path, { dev, devOptional }]) => path !== "" && (dev || devOptional) && existsSync(join(image, path)))
  .map(([path]) => path);
console.log(found.length > 0 ? found.join("\n") : "none");
