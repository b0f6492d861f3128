/**
 * `$(NAME)` in a container's command, arguments and values becomes the variable's value; `$$` becomes `$`, so that
 * `$$(NAME)` stays as `$(NAME)`; a name that nobody knows stays as it is written (Kubernetes API, Container.command).
 */
export function expandVariables(text: string, values: ReadonlyMap<string, string>): string {
  return text.replace(/\$(\$|\(([^)]*)\))/g, (whole, what: string, name: string | undefined) =>
    what === "$" ? "$" : (values.get(name ?? "") ?? whole),
  );
}
