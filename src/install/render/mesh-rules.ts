import { labelsOf } from "../names.ts";
import type { Settings } from "../settings/settings.ts";
import { type GatewayRole, gatewayNames } from "./gateway.ts";
import type { Manifest } from "./object.ts";

const istio = "networking.istio.io/v1alpha3";

/** What joins clusters at gateways: 15443 passes `*.global` on unopened, and all that goes there is mutual TLS. */
export function meshRules(settings: Settings): readonly Manifest[] {
  if (!settings.multicluster.enabled) return [];
  const { namespace, revision, gateways } = settings;
  const labels = labelsOf("mesh-rules", revision);
  const roles = (["ingress", "egress"] as const).filter((role) => gateways[role].enabled);
  return [...roles.map((role) => passthrough(role, { namespace, labels })), mutualTls({ namespace, labels })];
}

type Place = Pick<Manifest["metadata"], "namespace" | "labels">;

/** What a gateway passes on unopened: at the ingress to services here, at the egress to other clusters' gateways. */
export function passthrough(role: GatewayRole, place: Place): Manifest {
  const { istio: selected } = gatewayNames[role];
  return {
    apiVersion: istio,
    kind: "Gateway",
    metadata: { name: `isthmus-multicluster-${selected}`, ...place },
    spec: {
      selector: { istio: selected },
      servers: [
        {
          port: { number: 15443, name: "tls", protocol: "TLS" },
          tls: { mode: "AUTO_PASSTHROUGH" },
          hosts: ["*.global"],
        },
      ],
    },
  };
}

export function mutualTls(place: Place): Manifest {
  return {
    apiVersion: istio,
    kind: "DestinationRule",
    metadata: { name: "isthmus-multicluster-destinationrule", ...place },
    spec: { host: "*.global", trafficPolicy: { tls: { mode: "ISTIO_MUTUAL" } } },
  };
}
