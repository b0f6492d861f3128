import { z } from "zod";
import { ipFamily, parseIp } from "../../values/index.ts";
import { flag, ip, parsed, portNumber, repeats, rule, text, textMap, whole } from "../schema.ts";

// Kubernetes' own kinds: only the fields that we use. What else they hold is the API server's to judge.

export const namespace = z.object({});
export const serviceAccount = z.object({});

const portRef = z.union([portNumber, z.string().min(1)]);
const conditions = z.array(z.object({ type: text, status: text, reason: text.optional() })).default([]);

/** Headless services have the word `None` for an address. */
const clusterIp = parsed('an IP address or "None"', "ISM0307", (written) =>
  written === "None" || written === "" ? written : parseIp(written),
);

const serviceSpec = rule(
  z.object({
    type: z.enum(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]).default("ClusterIP"),
    selector: textMap.default({}),
    clusterIP: clusterIp.optional(),
    clusterIPs: z.array(clusterIp).default([]),
    externalIPs: z.array(ip).default([]),
    externalName: text.optional(),
    ports: z
      .array(
        z.object({
          name: text.default(""),
          port: portNumber,
          targetPort: portRef.optional(),
          nodePort: portNumber.optional(),
          protocol: z.enum(["TCP", "UDP", "SCTP"]).default("TCP"),
          appProtocol: text.optional(),
        }),
      )
      .default([]),
    publishNotReadyAddresses: flag.default(false),
    sessionAffinity: text.optional(),
  }),
  ["type", "externalName", "ports"],
  ({ type, externalName, ports }, report) => {
    if (type === "ExternalName" && !externalName)
      report(["externalName"], "ISM0801", "is required with type ExternalName");
    if (ports.length > 1)
      for (const [index, { name }] of ports.entries())
        if (name === "") report(["ports", index, "name"], "ISM0802", "is required when a Service has several ports");
    for (const { index } of repeats(ports, ({ name }) => name || undefined))
      report(
        ["ports", index, "name"],
        "ISM0802",
        `another port has the name "${ports[index]!.name}"; names must differ`,
      );
  },
);

export const service = z.object({
  spec: serviceSpec.prefault({}),
  status: z
    .object({
      loadBalancer: z
        .object({ ingress: z.array(z.object({ ip: ip.optional(), hostname: text.optional() })).default([]) })
        .default({ ingress: [] }),
    })
    .default({ loadBalancer: { ingress: [] } }),
});

const objectRef = z.object({ kind: text.optional(), namespace: text.optional(), name: text.optional() });

const sliceFields = z.object({
  addressType: z.enum(["IPv4", "IPv6", "FQDN"]),
  endpoints: z
    .array(
      z.object({
        addresses: z.array(text).default([]),
        /** An absent `ready` means ready. */
        conditions: z
          .object({ ready: flag.optional(), serving: flag.optional(), terminating: flag.optional() })
          .default({}),
        hostname: text.optional(),
        nodeName: text.optional(),
        zone: text.optional(),
        targetRef: objectRef.optional(),
      }),
    )
    .default([]),
  ports: z
    .array(
      z.object({
        name: text.default(""),
        port: portNumber.optional(),
        protocol: z.enum(["TCP", "UDP", "SCTP"]).default("TCP"),
        appProtocol: text.optional(),
      }),
    )
    .default([]),
});

export const endpointSlice = rule(sliceFields, ["addressType", "endpoints"], ({ addressType, endpoints }, report) => {
  for (const [index, { addresses }] of endpoints.entries())
    for (const [at, address] of addresses.entries()) {
      const parsedIp = parseIp(address);
      const fits = addressType === "FQDN" ? !parsedIp : parsedIp && `IPv${ipFamily(parsedIp)}` === addressType;
      if (!fits)
        report(
          ["endpoints", index, "addresses", at],
          "ISM0804",
          `must be of addressType ${addressType}, got "${address}"`,
        );
    }
});

const probe = z.object({
  httpGet: z
    .object({
      path: text.default("/"),
      port: portRef,
      host: text.optional(),
      scheme: z.enum(["HTTP", "HTTPS"]).default("HTTP"),
      httpHeaders: z.array(z.object({ name: text, value: text })).default([]),
    })
    .optional(),
  tcpSocket: z.object({ port: portRef, host: text.optional() }).optional(),
  grpc: z.object({ port: portNumber, service: text.optional() }).optional(),
  exec: z.object({ command: z.array(text).default([]) }).optional(),
  initialDelaySeconds: whole(0, 1_000_000).default(0),
  periodSeconds: whole(1, 1_000_000).default(10),
  timeoutSeconds: whole(1, 1_000_000).default(1),
  successThreshold: whole(1, 1_000_000).default(1),
  failureThreshold: whole(1, 1_000_000).default(3),
});

const container = z.object({
  name: text,
  image: text.default(""),
  command: z.array(text).default([]),
  args: z.array(text).default([]),
  workingDir: text.optional(),
  /** Values taken from elsewhere (`valueFrom`) are not read: such a variable has no `value`. */
  env: z.array(z.object({ name: text, value: text.optional() })).default([]),
  ports: z
    .array(
      z.object({
        name: text.optional(),
        containerPort: portNumber,
        hostPort: portNumber.optional(),
        protocol: z.enum(["TCP", "UDP", "SCTP"]).default("TCP"),
      }),
    )
    .default([]),
  readinessProbe: probe.optional(),
});

const podSpec = z.object({
  containers: z.array(container).min(1),
  initContainers: z.array(container).default([]),
  serviceAccountName: text.default("default"),
  hostNetwork: flag.default(false),
  nodeName: text.optional(),
  hostname: text.optional(),
  subdomain: text.optional(),
  dnsConfig: z
    .object({
      nameservers: z.array(text).default([]),
      searches: z.array(text).default([]),
      options: z.array(z.object({ name: text, value: text.optional() })).default([]),
    })
    .optional(),
  terminationGracePeriodSeconds: whole(0, 1_000_000).default(30),
});

export const pod = z.object({
  spec: podSpec,
  status: z
    .object({
      phase: z.enum(["Pending", "Running", "Succeeded", "Failed", "Unknown"]).optional(),
      podIP: ip.optional(),
      podIPs: z.array(z.object({ ip })).default([]),
      hostIP: ip.optional(),
      conditions,
    })
    .default({ podIPs: [], conditions: [] }),
});

const deploymentSpec = rule(
  z.object({
    replicas: whole(0, 1_000_000).default(1),
    selector: z.object({ matchLabels: textMap.default({}) }),
    template: z.object({
      metadata: z
        .object({ labels: textMap.default({}), annotations: textMap.default({}) })
        .default({ labels: {}, annotations: {} }),
      spec: podSpec,
    }),
  }),
  ["selector", "template"],
  ({ selector, template }, report) => {
    for (const [key, value] of Object.entries(selector.matchLabels))
      if (template.metadata.labels[key] !== value)
        report(
          ["selector", "matchLabels", key],
          "ISM0803",
          `"${value}" is not what the template's labels say; write the same in both`,
        );
  },
);

export const deployment = z.object({
  spec: deploymentSpec,
  status: z.object({ conditions }).default({ conditions: [] }),
});

/** A machine of the cluster. Its place is in its labels `topology.kubernetes.io/region` and `…/zone`. */
export const node = z.object({
  spec: z.object({ podCIDR: text.optional(), podCIDRs: z.array(text).default([]) }).default({ podCIDRs: [] }),
  status: z
    .object({
      addresses: z.array(z.object({ type: text, address: text })).default([]),
      conditions,
    })
    .default({ addresses: [], conditions: [] }),
});
