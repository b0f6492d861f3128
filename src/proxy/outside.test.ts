import { createHash, X509Certificate } from "node:crypto";
import { connect, type TLSSocket } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import type { TlsParametersSchema } from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { TlsParameters_TlsProtocol as Version } from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { DownstreamTlsContextSchema } from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { testAuthority } from "../testing/index.ts";
import { certificateSecret, type Secret, trustSecret } from "./config/secret.ts";
import { any, inspectors, listener, staticCluster, tcpProxy } from "./testdata/resources.ts";
import { echo, scene } from "./testdata/scene.ts";

const root = await testAuthority();
const clients = await testAuthority("clients");
const [site, renewed] = [await root.issue({ dns: ["a.test"] }), await root.issue({ dns: ["a.test"] })];
const [client, other] = [await clients.issue({ dns: ["c.test"] }), await clients.issue({ dns: ["o.test"] })];
type Issued = typeof site;

const pair = ({ certChainPem, privateKeyPem }: Issued): Secret => certificateSecret(certChainPem, privateKeyPem);
const told = (name: string) => ({ name, sdsConfig: { configSourceSpecifier: { case: "ads" as const, value: {} } } });

/** A gateway of bytes, whose TLS ends there. */
async function gateway(
  options: {
    readonly params?: Partial<
      Pick<
        import("@bufbuild/protobuf").MessageShape<typeof TlsParametersSchema>,
        "cipherSuites" | "tlsMinimumProtocolVersion" | "tlsMaximumProtocolVersion"
      >
    >;
    readonly pins?: { readonly verifyCertificateHash?: string[]; readonly verifyCertificateSpki?: string[] };
    readonly mutual?: boolean;
    readonly secrets?: Record<string, Secret>;
  } = {},
) {
  const app = await echo();
  const { params = {}, pins, mutual = pins !== undefined } = options;
  const value = any(DownstreamTlsContextSchema, {
    requireClientCertificate: mutual,
    commonTlsContext: {
      tlsParams: params,
      tlsCertificateSdsSecretConfigs: [told("kubernetes://a")],
      ...(mutual
        ? {
            validationContextType: {
              case: "combinedValidationContext" as const,
              value: {
                defaultValidationContext: pins ?? {},
                validationContextSdsSecretConfig: told("kubernetes://a-cacert"),
              },
            },
          }
        : {}),
    },
  });
  const running = await scene(
    { clusters: [staticCluster("app", [app])] },
    {
      secrets: options.secrets ?? {
        "kubernetes://a": pair(site),
        "kubernetes://a-cacert": trustSecret(clients.rootPem),
      },
    },
  );
  const transportSocket = { name: "envoy.transport_sockets.tls", configType: { case: "typedConfig" as const, value } };
  await running.change({
    listeners: [
      listener("gw", {
        listenerFilters: inspectors("tls_inspector"),
        filterChains: [{ filterChainMatch: { serverNames: ["a.test"] }, transportSocket, filters: [tcpProxy("app")] }],
      }),
    ],
  });
  // The store waits for what the control plane says; here the secrets are at hand.
  running.store.apply(
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    [],
    ["kubernetes://a", "kubernetes://a-cacert"],
  );
  await running.proxy.settled();
  return running;
}

interface Said {
  readonly socket: TLSSocket;
  /** Sends a word and reads it back. */
  say(word: string): Promise<string>;
}

function caller(
  port: number,
  options: {
    readonly shows?: Issued;
    readonly minVersion?: "TLSv1.3";
    readonly maxVersion?: "TLSv1.2";
    readonly ciphers?: string;
  } = {},
): Promise<Said> {
  const { shows, ...rest } = options;
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: "127.0.0.1",
      port,
      servername: "a.test",
      ca: root.rootPem,
      ...(shows ? { cert: shows.certChainPem, key: shows.privateKeyPem } : {}),
      ...rest,
    });
    onTestFinished(() => void socket.destroy());
    socket.once("error", reject).once("close", () => reject(new Error("closed")));
    const say = (word: string) =>
      new Promise<string>((answered, failed) => {
        socket.once("data", (data: Buffer) => answered(data.toString())).once("error", failed);
        socket.once("close", () => failed(new Error("closed")));
        socket.write(word);
      });
    socket.once("secureConnect", () => resolve({ socket, say }));
  });
}

test("a new certificate is for new callers, and who is connected goes on", async () => {
  const { at, secrets } = await gateway();
  const old = await caller(at("gw").port);
  const shown = ({ socket }: Said) => socket.getPeerX509Certificate()!.fingerprint256;
  expect(shown(old)).toBe(new X509Certificate(site.certChainPem).fingerprint256);
  secrets.set(new Map([...secrets.value, ["kubernetes://a", pair(renewed)]]));
  expect(shown(await caller(at("gw").port))).toBe(new X509Certificate(renewed.certChainPem).fingerprint256);
  expect(await old.say("still here")).toBe("still here");
});

test("without its secret a chain turns callers away, and says why", async () => {
  const { at } = await gateway({ secrets: {} });
  await expect(caller(at("gw").port)).rejects.toThrow();
});

test("versions and ciphers are those that were asked for", async () => {
  const cipherSuites = ["ECDHE-ECDSA-AES256-GCM-SHA384"];
  const { at } = await gateway({ params: { cipherSuites, tlsMaximumProtocolVersion: Version.TLSv1_2 } });
  const { socket } = await caller(at("gw").port);
  expect([socket.getProtocol(), socket.getCipher().name]).toEqual(["TLSv1.2", cipherSuites[0]]);
  await expect(caller(at("gw").port, { minVersion: "TLSv1.3" })).rejects.toThrow();
  await expect(caller(at("gw").port, { ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256" })).rejects.toThrow();
});

test("a list of ciphers takes nothing from TLS 1.3", async () => {
  const { at } = await gateway({ params: { cipherSuites: ["ECDHE-ECDSA-AES256-GCM-SHA384"] } });
  const { socket } = await caller(at("gw").port);
  expect(socket.getProtocol()).toBe("TLSv1.3");
});

const hash = new X509Certificate(client.certChainPem).fingerprint256;
const spki = createHash("sha256")
  .update(new X509Certificate(client.certChainPem).publicKey.export({ type: "spki", format: "der" }))
  .digest("base64");
const pins: ReadonlyArray<readonly [string, { verifyCertificateHash?: string[]; verifyCertificateSpki?: string[] }]> = [
  ["the certificate", { verifyCertificateHash: [hash] }],
  ["the certificate, without colons", { verifyCertificateHash: [hash.replaceAll(":", "").toLowerCase()] }],
  ["the key", { verifyCertificateSpki: [spki] }],
];
for (const [it, list] of pins) {
  test(`of believed clients only the one whose hash is listed may come: by ${it}`, async () => {
    const { at } = await gateway({ pins: list });
    expect(await (await caller(at("gw").port, { shows: client })).say("hello")).toBe("hello");
    const wrong = caller(at("gw").port, { shows: other }).then(({ say }) => say("hello"));
    await expect(wrong).rejects.toThrow();
  });
}
