import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SdsSecretConfigSchema } from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { filesFromAgent, fromAds } from "./typed.ts";

/**
 * How a proxy asks for keys that are not its own. `kubernetes://NAME` is a Secret of the proxy's own namespace, told over
 * the same authenticated stream as everything else, and only to whom it is for. `file-cert:…` and `file-root:…` are files
 * of the proxy's machine, which its agent reads and watches: what they hold never leaves it.
 */
export type SecretConfig = MessageInitShape<typeof SdsSecretConfigSchema>;

const secretPrefix = "kubernetes://";
const rootsSuffix = "-cacert";

/** The certificate and key of a Secret. */
export const keyPairName = (credential: string) => `${secretPrefix}${credential}`;
/** The roots of a Secret, or of the one of its name with `-cacert`. */
export const trustName = (credential: string) => `${secretPrefix}${credential}${rootsSuffix}`;

export const keyPairOf = (credential: string): SecretConfig => ({
  name: keyPairName(credential),
  sdsConfig: fromAds,
});
export const trustOf = (credential: string): SecretConfig => ({ name: trustName(credential), sdsConfig: fromAds });

export const keyPairFiles = (certificate: string, key: string): SecretConfig => ({
  name: `file-cert:${certificate}~${key}`,
  sdsConfig: filesFromAgent,
});

/** Without a file, the roots that the machine itself believes. */
export const trustFiles = (roots: string | undefined, crl?: string): SecretConfig => ({
  name: `file-root:${roots ?? "system"}${crl === undefined ? "" : `~${crl}`}`,
  sdsConfig: filesFromAgent,
});
