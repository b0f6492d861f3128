import { programFile } from "../base/index.ts";

/** What a container's image stands for on this machine. */
export type ImageCommand =
  /** The container's own command runs as it is. */
  | { readonly kind: "given" }
  | { readonly kind: "run"; readonly argv: readonly string[]; readonly env: Readonly<Record<string, string>> }
  /** A gateway: the mesh's own proxy, without an application. */
  | { readonly kind: "gateway" }
  /** Nothing in the table fits; `message` says what would help. */
  | { readonly kind: "unknown"; readonly message: string };

/** On a pod: the command to run in place of an image that the lab does not know. */
export const commandAnnotation = "lab.isthmus.dev/command";

export const gatewayImage = "isthmus/gateway";

interface Row {
  /** The image's name without registry and tag. */
  readonly image: RegExp;
  readonly command: (found: RegExpExecArray, tag: string, port: number) => ImageCommand;
}

function app(name: string, env: Readonly<Record<string, string>> = {}): ImageCommand {
  return { kind: "run", argv: [process.execPath, programFile("lab", "apps", `${name}.js`)], env };
}

const given: ImageCommand = { kind: "given" };

/** From the image to the command. The first row that fits counts. */
const table: readonly Row[] = [
  { image: /^isthmus\/gateway$/, command: () => ({ kind: "gateway" }) },
  { image: /^(curlimages\/curl|governmentpaas\/curl-ssl|tutum\/curl|pstauffer\/curl)$/, command: () => given },
  { image: /^(busybox|alpine|debian|ubuntu|nicolaka\/netshoot)$/, command: () => given },
  { image: /^(kennethreitz|mccutchen|kong)\/(go-)?httpbin$/, command: (_found, _tag, port) => httpbin(port) },
  { image: /^istio\/tcp-echo-server$/, command: () => app("tcp-echo") },
  { image: /(^|\/)grpc-echo$/, command: () => app("grpc-echo") },
  { image: /^isthmus\/echo$/, command: () => app("echo") },
  {
    image: /^istio\/examples-bookinfo-(productpage|details|ratings|reviews)-(v\d+)$/,
    command: ([, service, version]) => app(`bookinfo/${service}`, { SERVICE_VERSION: version ?? "" }),
  },
];

/** Whether Python has a real httpbin and a server for it; asked once, by who starts the lab. */
let realHttpbin = false;
export function useRealHttpbin(there: boolean): void {
  realHttpbin = there;
}

function httpbin(port: number): ImageCommand {
  if (!realHttpbin) return app("httpbin");
  return {
    kind: "run",
    argv: ["python3", "-m", "gunicorn", "-b", `0.0.0.0:${port}`, "-k", "gthread", "--threads", "8", "httpbin:app"],
    env: {},
  };
}

/** `docker.io/kennethreitz/httpbin:latest@sha256:…` to `kennethreitz/httpbin` and `latest`. */
export function splitImage(image: string): { readonly name: string; readonly tag: string } {
  const [plain = ""] = image.split("@");
  const parts = plain.split("/");
  // A first part with a dot, a port or the word localhost is a registry (the reference grammar of container images).
  if (parts.length > 1 && /[.:]|^localhost$/.test(parts[0]!)) parts.shift();
  if (parts.length > 1 && parts[0] === "library") parts.shift();
  const last = parts.pop() ?? "";
  const [base = "", tag = "latest"] = last.split(":");
  return { name: [...parts, base].join("/"), tag };
}

/**
 * The command for a container's image. `port` is the one that its application is to listen on.
 * An annotation's command goes before the table.
 */
export function imageCommand(options: {
  readonly image: string;
  readonly port: number;
  readonly annotations: Readonly<Record<string, string>>;
}): ImageCommand {
  const own = options.annotations[commandAnnotation];
  if (own !== undefined) return { kind: "run", argv: ["sh", "-c", own], env: {} };
  const { name, tag } = splitImage(options.image);
  for (const row of table) {
    const found = row.image.exec(name);
    if (found) return row.command(found, tag, options.port);
  }
  const message =
    `the lab has no local command for image "${options.image}"; it knows ${knownImages().join(", ")}; ` +
    `for any other, put the command into the pod's annotation "${commandAnnotation}"`;
  return { kind: "unknown", message };
}

/** Arguments that name container ports, with the ports that stand in for them on this machine. */
export function withPorts(
  args: readonly string[],
  listenPortOf: (containerPort: number) => number | undefined,
): string[] {
  return args.map((arg) =>
    /^\d+(,\d+)*$/.test(arg) ? arg.replace(/\d+/g, (port) => String(listenPortOf(Number(port)) ?? port)) : arg,
  );
}

/** The images of the table as a person would write them. */
export function knownImages(): readonly string[] {
  return [
    "curlimages/curl",
    "governmentpaas/curl-ssl",
    "busybox",
    "kennethreitz/httpbin",
    "mccutchen/go-httpbin",
    "kong/httpbin",
    "istio/tcp-echo-server",
    "grpc-echo",
    "isthmus/echo",
    "istio/examples-bookinfo-*",
  ];
}
