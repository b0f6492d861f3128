import { z } from "zod";
import { parseIp } from "../../values/index.ts";
import { flag, ip, parsed, portNumber, text, textMap, whole } from "../schema.ts";

// Kubernetes' own kinds: only the fields that we use. What else they hold is the API server's to judge.

export const namespace = z.object({});
export const serviceAccount = z.object({});

const portRef = z.union([portNumber, z.string().min(1)]);
const conditions = z.array(z.object({ type: text, status: text, reason: text.optional() })).default([]);

/** Headless services have the word `None` for an address. */
const clusterIp = parsed('an IP address or "None"', "ISM0307", (written) =>
  written === "None" || written === "" ? written : parseIp(written),
);

export const service = z.object({
  spec: z
    .object({
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
    })
    .default({
      type: "ClusterIP",
      selector: {},
      clusterIPs: [],
      externalIPs: [],
      ports: [],
      publishNotReadyAddresses: false,
    }),
  status: z
    .object({
      loadBalancer: z
        .object({ ingress: z.array(z.object({ ip: ip.optional(), hostname: text.optional() })).default([]) })
        .default({ ingress: [] }),
    })
    .default({ loadBalancer: { ingress: [] } }),
});

const objectRef = z.object({ kind: text.optional(), namespace: text.optional(), name: text.optional() });

export const endpointSlice = z.object({
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

export const deployment = z.object({
  spec: z.object({
    replicas: whole(0, 1_000_000).default(1),
    selector: z.object({ matchLabels: textMap.default({}) }),
    template: z.object({
      metadata: z
        .object({ labels: textMap.default({}), annotations: textMap.default({}) })
        .default({ labels: {}, annotations: {} }),
      spec: podSpec,
    }),
  }),
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
