import type { ContainerJson, Json } from "./pod.ts";
import type { AppProbers } from "./probes.ts";
import { controlPlaneName, type InjectionSettings } from "./settings.ts";
import type { PodWishes } from "./wishes.ts";

export const proxyName = "istio-proxy";
export const initName = "istio-init";
/** Who the proxy runs as: what it sends is not captured again. */
export const proxyUid = 1337;
/** Where callers and kubelet ask whether the proxy is ready. */
export const healthPort = 15021;

export interface ProxyPlace {
  readonly settings: InjectionSettings;
  readonly wishes: PodWishes;
  readonly probers: AppProbers;
  readonly native: boolean;
}

/**
 * `hub/image:tag`, or the image alone where it is a whole reference; the one with an Envoy in it ends in `-envoy`. Of a
 * digest there is no other form: who gives one gives that of the image that is wanted.
 */
export function imageOf({ hub, image, tag }: Pick<InjectionSettings, "hub" | "image" | "tag">, ending = ""): string {
  if (image.includes("@")) return image;
  const whole = /[/:]/.test(image) ? image : `${hub === "" ? "" : `${hub}/`}${image}:${tag}`;
  return `${whole}${ending}`;
}

/** The container of the proxy. As a native sidecar it is an init container that stays. */
export function proxyContainer({ settings, wishes, probers, native }: ProxyPlace): ContainerJson {
  const { dataPlane, readiness } = wishes;
  const image = wishes.image ?? imageOf(settings, dataPlane === "envoy" ? "-envoy" : "");
  const ready = { httpGet: { path: "/healthz/ready", port: healthPort } };
  const hold = wishes.holdApplication && !native;
  return {
    name: proxyName,
    image,
    ...pullPolicy(settings),
    args: proxyArgs({ settings, wishes }),
    env: proxyEnv({ wishes, probers }),
    ...(wishes.statusPort === 0
      ? {}
      : { ports: [{ name: "http-status", containerPort: wishes.statusPort, protocol: "TCP" }] }),
    ...(native ? { restartPolicy: "Always" } : {}),
    // Until it has passed, what comes after it is not started.
    ...(native ? { startupProbe: { ...ready, periodSeconds: 1, timeoutSeconds: 3, failureThreshold: 600 } } : {}),
    readinessProbe: { ...ready, timeoutSeconds: 3, ...readiness },
    // Kubelet starts containers one after the other, and waits for this before the next.
    ...(hold ? { lifecycle: { postStart: { exec: { command: ["isthmus", "wait"] } } } } : {}),
    resources: resourcesJson(wishes.resources),
    securityContext: {
      runAsUser: proxyUid,
      runAsGroup: proxyUid,
      runAsNonRoot: true,
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
      seccompProfile: { type: "RuntimeDefault" },
    },
    volumeMounts: [...proxyMounts, ...wishes.mounts],
  };
}

function proxyArgs({ settings, wishes }: Pick<ProxyPlace, "settings" | "wishes">): readonly string[] {
  const { dataPlane, statusPort } = wishes;
  const pairs: readonly (readonly [string, string] | undefined)[] = [
    ["--type", "sidecar"],
    ["--node-ip", "$(INSTANCE_IP)"],
    ["--pod", "$(POD_NAME)"],
    ["--namespace", "$(POD_NAMESPACE)"],
    ["--service-account", "$(SERVICE_ACCOUNT)"],
    ["--cluster", settings.cluster],
    ["--labels-file", "/etc/istio/pod/labels"],
    ["--discovery", settings.discovery],
    ["--server-name", controlPlaneName(settings)],
    ["--root-cert", "/var/run/secrets/istio/root-cert.pem"],
    ["--token", "/var/run/secrets/tokens/istio-token"],
    ["--trust-domain", settings.trustDomain],
    ["--cluster-domain", settings.clusterDomain],
    ["--admin-port", "15000"],
    statusPort === 0 ? undefined : ["--status", `0.0.0.0:${statusPort}`],
    ["--health", `0.0.0.0:${healthPort}`],
    // Its name servers and search domains are those of the pod's resolv.conf, which kubelet makes of all that counts.
    wishes.dnsCapture && wishes.interception === "REDIRECT" ? ["--dns-listen", "127.0.0.1:15053"] : undefined,
    ["--state", "/var/lib/istio/data"],
    settings.network === null ? undefined : ["--network", settings.network],
    wishes.interception === "REDIRECT" ? undefined : ["--interception", wishes.interception],
    ["--concurrency", String(wishes.concurrency)],
    ["--drain", `${wishes.drainSeconds}s`],
    ["--log-level", wishes.logLevel],
    ...(dataPlane === "envoy"
      ? ([
          ["--run-dir", "/var/run/isthmus"],
          ["--envoy-log-level", envoyLevels[wishes.logLevel]],
        ] as const)
      : []),
  ];
  return [dataPlane === "envoy" ? "agent" : "proxy", ...pairs.flatMap((pair) => pair ?? [])];
}

const envoyLevels = { error: "error", warn: "warning", info: "info", debug: "debug", silent: "off" } as const;

function proxyEnv({ wishes, probers }: Pick<ProxyPlace, "wishes" | "probers">): readonly Json[] {
  const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  const fixed = [
    field("INSTANCE_IP", "status.podIP"),
    field("POD_NAME", "metadata.name"),
    field("POD_NAMESPACE", "metadata.namespace"),
    field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
    ...(Object.keys(probers).length === 0 ? [] : [{ name: "ISTIO_KUBE_APP_PROBERS", value: JSON.stringify(probers) }]),
  ];
  const taken = new Set(fixed.map(({ name }) => name));
  const own = Object.entries(wishes.env).filter(([name]) => !taken.has(name));
  return [...fixed, ...own.map(([name, value]) => ({ name, value }))];
}

export function resourcesJson({ requests, limits }: PodWishes["resources"]): Json {
  const filled = (of: Readonly<Record<string, string>>) => Object.keys(of).length > 0;
  return { ...(filled(requests) ? { requests } : {}), ...(filled(limits) ? { limits } : {}) };
}

export function pullPolicy({ imagePullPolicy }: InjectionSettings): Json {
  return imagePullPolicy === null ? {} : { imagePullPolicy };
}

const proxyMounts: readonly Json[] = [
  { name: "istio-root", mountPath: "/var/run/secrets/istio", readOnly: true },
  { name: "istio-token", mountPath: "/var/run/secrets/tokens", readOnly: true },
  { name: "istio-podinfo", mountPath: "/etc/istio/pod", readOnly: true },
  { name: "istio-data", mountPath: "/var/lib/istio/data" },
  { name: "istio-run", mountPath: "/var/run/isthmus" },
];

const downward = (path: string) => ({ path, fieldRef: { fieldPath: `metadata.${path}` } });

/** What the proxy's container mounts. */
export const proxyVolumes: readonly Json[] = [
  { name: "istio-root", configMap: { name: "isthmus-ca-root-cert" } },
  {
    name: "istio-token",
    projected: {
      sources: [{ serviceAccountToken: { audience: "istio-ca", expirationSeconds: 43200, path: "istio-token" } }],
    },
  },
  { name: "istio-podinfo", downwardAPI: { items: [downward("labels"), downward("annotations")] } },
  { name: "istio-data", emptyDir: { medium: "Memory" } },
  { name: "istio-run", emptyDir: { medium: "Memory" } },
];
