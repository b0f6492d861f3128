import { cached, type KeyPair, type Mesh, type Trust } from "../model/index.ts";
import { SecretSchema } from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { Versioned } from "../proto/index.ts";
import { type Origin, spiffeParts } from "../values/index.ts";
import { keyPairName, trustName } from "./credentials.ts";
import { versioned } from "./encode.ts";
import type { ProxyNode } from "./node.ts";

/**
 * Whether a node may have keys: it proved by its certificate to be the service account under which the cluster itself
 * runs the pod that it says it is. Who proved nothing is told nothing, and a pod cannot pass for its neighbour.
 */
function mayHaveKeys({ workloads }: Pick<Mesh, "workloads">, node: ProxyNode): boolean {
  const proved = node.identity && spiffeParts(node.identity);
  const workload = workloads.get(`${node.namespace}/${node.name}`);
  return (
    proved !== undefined &&
    workload !== undefined &&
    proved.namespace === workload.namespace &&
    proved.serviceAccount === workload.serviceAccount
  );
}

const nothing: ReadonlyMap<string, Versioned> = new Map();

/** The Secrets of these names, of the node's own namespace and no other; none for who may not have them. */
export function secretResources(
  mesh: Pick<Mesh, "workloads" | "secrets">,
  node: ProxyNode,
  credentials: Iterable<string>,
): ReadonlyMap<string, Versioned> {
  const names = [...new Set(credentials)];
  if (names.length === 0 || !mayHaveKeys(mesh, node)) return nothing;
  const resources = new Map<string, Versioned>();
  const find = (name: string) => mesh.secrets.get(`${node.namespace}/${name}`);
  for (const name of names) {
    const secret = find(name);
    const pair = secret?.keyPair && keyPairResource(name, secret.keyPair, secret.origin);
    if (pair) resources.set(pair.name, pair);
    // The Secret for roots alone goes before what lies beside the key.
    const holder = [find(`${name}-cacert`), secret].find((one) => one?.trust);
    const trust = holder?.trust && trustResource(name, holder.trust, holder.origin);
    if (trust) resources.set(trust.name, trust);
  }
  return resources;
}

const inline = (text: string) => ({ specifier: { case: "inlineBytes" as const, value: Buffer.from(text, "utf8") } });

const pairs = new WeakMap<KeyPair, Map<string, Versioned>>();
const trusts = new WeakMap<Trust, Map<string, Versioned>>();

function keyPairResource(credential: string, pair: KeyPair, origin: Origin): Versioned {
  const byName = cached(pairs, pair, () => new Map<string, Versioned>());
  return cached(byName, credential, () => {
    const name = keyPairName(credential);
    return versioned(SecretSchema, {
      name,
      origins: [origin],
      message: {
        name,
        type: {
          case: "tlsCertificate",
          value: { certificateChain: inline(pair.chain), privateKey: inline(pair.key.reveal()) },
        },
      },
    });
  });
}

function trustResource(credential: string, trust: Trust, origin: Origin): Versioned {
  const { roots, crl } = trust;
  const byName = cached(trusts, trust, () => new Map<string, Versioned>());
  return cached(byName, credential, () => {
    const name = trustName(credential);
    return versioned(SecretSchema, {
      name,
      origins: [origin],
      message: {
        name,
        type: {
          case: "validationContext",
          value: { trustedCa: inline(roots), ...(crl === undefined ? {} : { crl: inline(crl) }) },
        },
      },
    });
  });
}
