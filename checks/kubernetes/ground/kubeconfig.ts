import type { IssuedPair } from "./credentials.ts";

/** One cluster as one user of it sees it. */
export interface Context {
  readonly name: string;
  /** `https://address:port`. */
  readonly server: string;
  /** PEM. */
  readonly ca: string;
  readonly user: IssuedPair;
}

/** A kubeconfig with these contexts, the first of them current. It is JSON, which is YAML. */
export function kubeconfigText(contexts: readonly Context[]): string {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  return JSON.stringify(
    {
      apiVersion: "v1",
      kind: "Config",
      "current-context": contexts[0]?.name,
      clusters: contexts.map(({ name, server, ca }) => ({
        name,
        cluster: { server, "certificate-authority-data": base64(ca) },
      })),
      users: contexts.map(({ name, user }) => ({
        name,
        user: { "client-certificate-data": base64(user.certificate), "client-key-data": base64(user.key) },
      })),
      contexts: contexts.map(({ name }) => ({ name, context: { cluster: name, user: name } })),
    },
    undefined,
    2,
  );
}
