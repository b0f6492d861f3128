import { join } from "node:path";
import { toJson } from "@bufbuild/protobuf";
import type { Clock, Logger, Scope } from "../../base/index.ts";
import type { HeldCertificate, WorkloadCertificate } from "../../ca/index.ts";
import { NodeSchema } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { type TypeUrl, typeUrls } from "../../proto/index.ts";
import { type NodeFacts, nodeMessage } from "./node.ts";
import { decodeStateFile, encodeStateFile, type StateFile } from "./state-file.ts";
import { StateFolder } from "./state-folder.ts";
import { SteadyWriter } from "./steady-writer.ts";

/** A resource as the control plane told it. */
export interface KeptResource {
  readonly type: TypeUrl;
  readonly name: string;
  readonly version: string;
  readonly bytes: Uint8Array;
}

/** What was told last, and of which types anything was told: of one there may be none. */
export interface KeptConfiguration {
  readonly savedMs: number;
  readonly told: readonly TypeUrl[];
  readonly resources: readonly KeptResource[];
}

/** What a proxy that starts again goes on with, and where it keeps what the next one will. */
export interface KeptState {
  readonly configuration: KeptConfiguration | undefined;
  readonly certificate: HeldCertificate | undefined;
  /**
   * Writes the configuration soon; `read` is asked then, once for many changes. What it does not give, as while half of a
   * change is still to come, is not written.
   */
  keepConfiguration(read: () => Omit<KeptConfiguration, "savedMs"> | undefined): void;
  keepCertificate(certificate: WorkloadCertificate): void;
}

const files = {
  configuration: { name: "configuration.state", kind: "configuration" },
  certificate: { name: "certificate.state", kind: "certificate" },
} as const;

/**
 * Opens the folder of one proxy below `dir`. What is there and is not this proxy's, or not whole, is left aside with a line
 * in the log. Closing writes what is not written yet.
 */
export async function openKeptState(
  options: { readonly dir: string; readonly node: NodeFacts },
  deps: { readonly clock: Clock; readonly log: Logger },
  scope: Scope,
): Promise<KeptState> {
  const { clock, log } = deps;
  const { pod, namespace } = options.node;
  // Below the folder that was given, since that one may be a mount which is open to all.
  const folder = new StateFolder(join(options.dir, encodeURIComponent(`${pod}.${namespace}`)), log);
  // The certificate is that of the identity; configuration was made for all that the node said of itself.
  const nodes = { configuration: nodeKey(options.node), certificate: nodeMessage(options.node).id };

  async function read<T>(which: keyof typeof files, parse: (file: StateFile) => T): Promise<T | undefined> {
    const bytes = await folder.read(files[which].name);
    if (!bytes) return undefined;
    const found = decodeStateFile(bytes, { kind: files[which].kind, node: nodes[which] });
    if (!found.ok) {
      log.warn({ file: files[which].name, reason: found.reason }, "kept state ignored");
      return undefined;
    }
    return parse(found.file);
  }
  const write = (which: keyof typeof files, content: () => Pick<StateFile, "head" | "blobs">) =>
    folder.write(files[which].name, () =>
      encodeStateFile({ kind: files[which].kind, node: nodes[which], savedMs: clock.now(), ...content() }),
    );

  const configurations = new SteadyWriter(clock);
  const certificates = new SteadyWriter(clock);
  scope.defer(async () => {
    await configurations.close();
    await certificates.close();
  });
  return {
    configuration: await read("configuration", parseConfiguration),
    certificate: await read("certificate", parseCertificate),
    keepConfiguration: (read) =>
      configurations.want(async () => {
        const now = read();
        return now === undefined || write("configuration", () => configurationFile(now));
      }),
    keepCertificate: (certificate) => certificates.want(() => write("certificate", () => certificateFile(certificate))),
  };
}

/** All that a node says of itself, but for the program's version: a newer program reads what an older one was told. */
function nodeKey(facts: NodeFacts): string {
  return JSON.stringify(toJson(NodeSchema, nodeMessage({ ...facts, version: "" })));
}

function configurationFile({ told, resources }: Omit<KeptConfiguration, "savedMs">): Pick<StateFile, "head" | "blobs"> {
  return {
    head: { told, resources: resources.map(({ type, name, version }) => [type, name, version]) },
    blobs: resources.map(({ bytes }) => bytes),
  };
}

/** The checksum vouches for the form: it is what `configurationFile` made. */
function parseConfiguration({ savedMs, head, blobs }: StateFile): KeptConfiguration {
  const { told, resources } = head as {
    readonly told: readonly TypeUrl[];
    readonly resources: ReadonlyArray<readonly [TypeUrl, string, string]>;
  };
  const known = new Set<string>(Object.values(typeUrls));
  return {
    savedMs,
    told: told.filter((type) => known.has(type)),
    resources: resources.flatMap(([type, name, version], i) =>
      known.has(type) ? [{ type, name, version, bytes: blobs[i]! }] : [],
    ),
  };
}

const utf8 = (text: string) => Buffer.from(text, "utf8");

function certificateFile(certificate: WorkloadCertificate): Pick<StateFile, "head" | "blobs"> {
  const { certChainPem, privateKeyPem, rootsPem } = certificate;
  return { head: {}, blobs: [utf8(certChainPem), utf8(privateKeyPem), utf8(rootsPem)] };
}

function parseCertificate({ savedMs, blobs }: StateFile): HeldCertificate {
  const [certChainPem = "", privateKeyPem = "", rootsPem = ""] = blobs.map((blob) =>
    Buffer.from(blob).toString("utf8"),
  );
  return { certChainPem, privateKeyPem, rootsPem, sinceMs: savedMs };
}
