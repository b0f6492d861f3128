import { z } from "zod";
import { cidr, hostname, labelMap, portNumber, protocol, text } from "../schema.ts";
import { exportTo } from "./export-to.ts";
import { endpoint } from "./workload-entry.ts";

const servicePort = z.strictObject({
  name: text,
  number: portNumber,
  protocol: protocol.default("unset"),
  targetPort: portNumber.optional(),
});

const spec = z.strictObject({
  hosts: z.array(hostname).min(1).max(256),
  addresses: z.array(cidr).max(256).default([]),
  ports: z.array(servicePort).max(256).default([]),
  location: z.enum(["MESH_EXTERNAL", "MESH_INTERNAL"]).default("MESH_EXTERNAL"),
  resolution: z.enum(["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]).default("NONE"),
  endpoints: z.array(endpoint).max(4096).default([]),
  workloadSelector: z.strictObject({ labels: labelMap.default({}) }).optional(),
  exportTo,
  subjectAltNames: z.array(text).default([]),
});

export const serviceEntry = z.object({ spec, status: z.unknown().optional() });
