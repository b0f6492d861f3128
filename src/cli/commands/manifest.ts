import { Command } from "commander";
import { customKinds, customResourceDefinition, writeManifest } from "../../resources/index.ts";

/** `isthmus manifest`: what a cluster needs, as text. Nothing is applied. */
export function manifestCommand(): Command {
  const command = new Command("manifest").description("print what a Kubernetes cluster needs, to read or to apply");
  command
    .command("crds")
    .description("the definitions of the kinds that a cluster does not know by itself")
    .action(() => {
      process.stdout.write(writeManifest(customKinds.map(customResourceDefinition)));
    });
  return command;
}
