import { cached, isGlobal, type Mesh, ruleFor, type Service, type ServicePort } from "../model/index.ts";
import { Cluster_DiscoveryType, ClusterSchema } from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "../proto/gen/envoy/config/route/v3/route_pb.js";
import { RouterSchema } from "../proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { HttpConnectionManagerSchema } from "../proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { UpstreamTlsContextSchema } from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { clusterName, outbound, parseIp, sniName } from "../values/index.ts";
import { type Client, visibleServices } from "./client.ts";
import { serverOf } from "./cluster-tls.ts";
import { versioned } from "./encode.ts";
import { endpointsFor, loadAssignment } from "./endpoints.ts";
import { noParts, type Parts, put } from "./parts.ts";
import { policyFor } from "./policy.ts";
import { extension, fromAds, typed } from "./typed.ts";

const made = new WeakMap<Mesh, Map<string, Parts>>();

/**
 * For a gRPC client that speaks xDS itself: a listener for each `host:port`, its routes, an EDS cluster. Such a client
 * knows little of what a proxy knows; what it refuses is left out.
 */
export function grpcParts(mesh: Mesh, client: Client): Parts {
  const byClient = cached(made, mesh, () => new Map<string, Parts>());
  return cached(byClient, client.key, () => {
    const parts = noParts();
    for (const service of visibleServices(mesh, client.namespace).values())
      for (const port of service.ports) if (port.protocol !== "udp") addTarget(parts, { mesh, client, service, port });
    return parts;
  });
}

function addTarget(
  parts: Parts,
  options: { readonly mesh: Mesh; readonly client: Client; readonly service: Service; readonly port: ServicePort },
): void {
  const { mesh, client, service, port } = options;
  const { origins } = service;
  const target = `${service.hostname}:${port.number}`;
  const name = clusterName(outbound(service.hostname, port.number));
  put(
    parts.listener,
    versioned(ListenerSchema, {
      name: target,
      origins,
      message: {
        name: target,
        apiListener: {
          apiListener: typed(HttpConnectionManagerSchema, {
            statPrefix: target,
            routeSpecifier: { case: "rds", value: { routeConfigName: name, configSource: fromAds } },
            httpFilters: [extension("envoy.filters.http.router", RouterSchema, {})],
          }),
        },
      },
    }),
  );
  put(
    parts.route,
    versioned(RouteConfigurationSchema, {
      name,
      origins,
      message: {
        name,
        virtualHosts: [
          {
            name: target,
            domains: [target, service.hostname],
            routes: [
              {
                match: { pathSpecifier: { case: "prefix", value: "" } },
                action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: name } } },
              },
            ],
          },
        ],
      },
    }),
  );
  // A name that only DNS knows is no endpoint for EDS.
  const endpoints = endpointsFor(service, { port, subset: undefined, networks: client.networks }).filter(
    (one) => parseIp(one.address) !== undefined,
  );
  const rule = ruleFor(mesh.rules, service, {
    namespace: client.namespace,
    systemNamespace: mesh.settings.systemNamespace,
  });
  const mode = policyFor(rule, port.number).tls?.mode;
  const all = endpoints.length > 0 && endpoints.every((one) => one.mutualTls);
  const secured =
    mode === "ISTIO_MUTUAL" ||
    (mode === undefined && service.location === "internal" && (isGlobal(service.hostname) || all));
  put(
    parts.cluster,
    versioned(ClusterSchema, {
      name,
      origins: rule ? [...origins, ...rule.origins] : origins,
      message: {
        name,
        clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
        edsClusterConfig: { edsConfig: fromAds, serviceName: name },
        ...(secured
          ? {
              transportSocket: extension("envoy.transport_sockets.tls", UpstreamTlsContextSchema, {
                sni: sniName(outbound(service.hostname, port.number)),
                commonTlsContext: {
                  tlsCertificateProviderInstance: { instanceName: "default", certificateName: "default" },
                  validationContextType: {
                    case: "combinedValidationContext",
                    value: {
                      defaultValidationContext: {
                        caCertificateProviderInstance: { instanceName: "default", certificateName: "ROOTCA" },
                        // These clients read no other list of names.
                        matchSubjectAltNames: namesOf(service, { endpoints, mesh }),
                      },
                    },
                  },
                },
              }),
            }
          : {}),
      },
    }),
  );
  put(
    parts.endpoints,
    versioned(ClusterLoadAssignmentSchema, {
      name,
      origins,
      message: loadAssignment(name, { endpoints, port: port.number, layout: { kind: "flat" } }),
    }),
  );
}

function namesOf(
  service: Service,
  { endpoints, mesh }: { readonly endpoints: Service["endpoints"]; readonly mesh: Mesh },
) {
  const server = serverOf(service, { names: [], endpoints, settings: mesh.settings });
  if (server.kind === "begins") return [{ matchPattern: { case: "prefix" as const, value: server.prefix } }];
  return server.names.map((value) => ({ matchPattern: { case: "exact" as const, value } }));
}
