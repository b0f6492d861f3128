// Says what a container of an image runs, a word a line, for `chroot ROOT`: its user and rights, its environment, its command.
//
//   node command.mjs CONFIG USER|image CAPABILITY,…|none [ARGUMENT…] [-- COMMAND…]
import { readFileSync } from "node:fs";

const [configFile, as, rights, ...rest] = process.argv.slice(2);
const image = JSON.parse(readFileSync(configFile, "utf8"));
const [uid, gid] = (as === "image" ? image.User : as).split(":");
// All are dropped, as our manifests say, and those added that they add.
const bounding = ["-all", ...(rights === "none" ? [] : rights.split(",").map((right) => `+${right}`))].join(",");
// Arguments take the place of the image's; after "--" so does the command.
const command = rest[0] === "--" ? rest.slice(1) : [...image.Entrypoint, ...(rest.length > 0 ? rest : image.Cmd)];
const setpriv = ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--inh-caps=-all", `--bounding-set=${bounding}`];
console.log([...setpriv, "--no-new-privs", "env", "-i", ...image.Env, ...command].join("\n"));
