import { formatOrigin } from "../values/index.ts";
import { type Finding, finding } from "./finding.ts";
import { credentialsOf, type GatewayServer, serversOf } from "./gateways.ts";
import type { Mesh, Workload } from "./mesh.ts";

type Facts = Pick<Mesh, "gateways" | "workloads" | "secrets" | "settings">;

/** Gateway servers whose Secret is not there, or is of no use. It must stand beside the gateway's pods. */
export function checkSecrets(mesh: Facts): readonly Finding[] {
  const naming = mesh.gateways.filter((one) => credentialsOf(one.server).length > 0);
  if (naming.length === 0) return [];
  const found: Finding[] = [];
  const namespaces = namespacesOf(naming, mesh.workloads.values());
  for (const one of naming) {
    for (const credential of credentialsOf(one.server))
      for (const namespace of namespaces.get(one) ?? []) found.push(...judge(mesh, { one, credential, namespace }));
  }
  // Servers of one Gateway may name one Secret.
  return [...new Map(found.map((one) => [`${formatOrigin(one.origin)} ${one.message}`, one])).values()];
}

/** Where the pods are that run a server. */
function namespacesOf(
  servers: readonly GatewayServer[],
  workloads: Iterable<Workload>,
): ReadonlyMap<GatewayServer, ReadonlySet<string>> {
  const found = new Map<GatewayServer, Set<string>>();
  for (const { labels, namespace } of workloads)
    for (const one of serversOf(servers, labels)) found.set(one, (found.get(one) ?? new Set()).add(namespace));
  return found;
}

function judge(
  { secrets, settings }: Facts,
  asked: { readonly one: GatewayServer; readonly credential: string; readonly namespace: string },
): readonly Finding[] {
  const { one, credential, namespace } = asked;
  const { origin, gateway, server } = one;
  const where = `namespace "${namespace}", where the gateway's pods are`;
  const secret = secrets.get(`${namespace}/${credential}`);
  const found: Finding[] = [];
  if (!secret) {
    const read = settings.secretNamespaces?.includes(namespace) ?? true;
    const misplaced = gateway.namespace !== namespace && secrets.has(`${gateway.namespace}/${credential}`);
    found.push(
      finding("mesh/secret-missing", {
        severity: "error",
        origin,
        message: `there is no Secret "${credential}" with a certificate in ${where}: nobody can open TLS on port ${server.port.number} for its hosts`,
        hint: !read
          ? `the cluster's Secrets are not read there; add "${namespace}" to --secret-namespaces of the control plane (setting gateways.secretNamespaces)`
          : misplaced
            ? `it stands in namespace "${gateway.namespace}"; put it into "${namespace}"`
            : "put it there, or name another in tls.credentialName",
      }),
    );
    return found;
  }
  for (const problem of secret.problems)
    found.push(
      finding("mesh/secret-unusable", {
        severity: "error",
        origin: secret.origin,
        message: `Secret "${credential}" ${problem}; ${secret.keyPair ? "the last good certificate stays" : "nobody can open TLS with it"}`,
        hint: "write the certificate, with those above it, and its key, both in PEM",
      }),
    );
  const mode = server.tls?.mode;
  const needsTrust = mode === "MUTUAL" || mode === "OPTIONAL_MUTUAL";
  if (needsTrust && !secret.trust && !secrets.get(`${namespace}/${credential}-cacert`)?.trust)
    found.push(
      finding("mesh/secret-missing", {
        severity: "error",
        origin,
        message: `mode ${mode} on port ${server.port.number} needs the roots of its clients, and ${where}, has neither a Secret "${credential}-cacert" nor "ca.crt" in "${credential}"`,
        hint: "write the roots as ca.crt of one of the two",
      }),
    );
  if (!secret.keyPair && secret.problems.length === 0)
    found.push(
      finding("mesh/secret-unusable", {
        severity: "error",
        origin: secret.origin,
        message: `Secret "${credential}" has roots, and no certificate to show`,
        hint: "write tls.crt and tls.key, or cert and key",
      }),
    );
  return found;
}
