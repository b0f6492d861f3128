import { type Admission, type Caller, grpcFailure } from "../ads/index.ts";
import { type Clock, explain } from "../base/index.ts";
import { decodeCertificate, leafIdentity } from "../ca/index.ts";
import type { Node } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import type { SpiffeId } from "../values/index.ts";
import { type ProxyNode, readNode } from "../xds/index.ts";

/** Who may have the configuration of which node. */
export interface NodeAdmission {
  /** Who showed a certificate gets what its own namespace runs, and nothing else. */
  admit(caller: Caller, node: Node): Admission;
  /** The node of a caller that was admitted. */
  nodeOf(caller: Caller, node: Node): ProxyNode;
}

/**
 * One identity, of our trust domain, of the node's own namespace: nobody gets what others run. A certificate that names
 * no identity is refused, though our root signed it. Without any certificate (discovery without TLS, which listens on
 * loopback only) a node is who it says.
 */
export function nodeAdmission({
  trustDomain,
  clock,
}: {
  readonly trustDomain: string;
  readonly clock: Clock;
}): NodeAdmission {
  const trustDomains = new Set([trustDomain]);

  function identityOf({
    certificate,
  }: Caller): { readonly identity: SpiffeId | undefined } | { readonly reason: string } {
    if (certificate === undefined) return { identity: undefined };
    try {
      const leaf = decodeCertificate(certificate.der);
      const verdict = leafIdentity(leaf, { nowMs: clock.now(), role: "client", trustDomains });
      return verdict.ok ? { identity: verdict.identity } : { reason: verdict.reason };
    } catch (caught) {
      return { reason: explain(caught) };
    }
  }

  function read(caller: Caller, node: Node) {
    const known = identityOf(caller);
    return "reason" in known ? ({ ok: false, reason: known.reason } as const) : readNode(node, known.identity);
  }

  return {
    admit: (caller, node) => {
      const verdict = read(caller, node);
      return verdict.ok ? { ok: true } : verdict;
    },
    nodeOf: (caller, node) => {
      const verdict = read(caller, node);
      if (!verdict.ok) throw grpcFailure("permission-denied", verdict.reason);
      return verdict.node;
    },
  };
}
