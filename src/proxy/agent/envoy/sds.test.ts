import { statSync } from "node:fs";
import { join } from "node:path";
import { create, fromBinary } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { openChannel } from "../../../ads/index.ts";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../../../base/index.ts";
import { SecretSchema } from "../../../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import {
  DiscoveryRequestSchema,
  type DiscoveryResponse,
} from "../../../proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { SecretDiscoveryService } from "../../../proto/gen/envoy/service/secret/v3/sds_pb.js";
import { typeUrls } from "../../../proto/index.ts";
import { scratchDir } from "../../../testing/index.ts";
import { certificateSecret, type Secrets, trustSecret } from "../../config/secret.ts";
import { startFileSecrets } from "../file-secrets.ts";
import { startSecretService } from "./sds.ts";

function secretsOf(generation: string): Secrets {
  return new Map([
    ["default", certificateSecret(`chain ${generation}`, `key ${generation}`)],
    ["ROOTCA", trustSecret(`roots ${generation}`)],
    ["other", certificateSecret("another's chain", "another's key")],
  ]);
}

/** A secret's texts, of what a response carries. */
function textsOf(response: DiscoveryResponse) {
  return response.resources.map(({ value }) => {
    const { name, type } = fromBinary(SecretSchema, value);
    const text = (source: { specifier: { value?: unknown } } | undefined) =>
      Buffer.from(source?.specifier.value as Uint8Array).toString("utf8");
    if (type.case === "tlsCertificate") return [name, text(type.value.certificateChain), text(type.value.privateKey)];
    if (type.case === "validationContext") return [name, text(type.value.trustedCa)];
    throw new Error(`unexpected ${type.case}`);
  });
}

async function scene() {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const path = join(scratchDir(), "sds.sock");
  const secrets = new Cell<Secrets>(secretsOf("1"));
  const deps = { clock: systemClock, log: silentLogger, metrics: new Metrics() };
  const files = startFileSecrets({ clock: systemClock, log: silentLogger }, scope);
  await startSecretService({ path, secrets, files }, deps, scope);
  const channel = openChannel({ target: `unix:${path}`, security: { kind: "plaintext" } }, scope);
  const ask = async (names: readonly string[]) => {
    const stream = channel.bidi(SecretDiscoveryService.method.streamSecrets);
    const say = (answered?: DiscoveryResponse) =>
      stream.send(
        create(DiscoveryRequestSchema, {
          ...(answered ? { responseNonce: answered.nonce, versionInfo: answered.versionInfo } : {}),
          node: { id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local" },
          typeUrl: typeUrls.secret,
          resourceNames: [...names],
        }),
      );
    await say();
    const responses = stream.responses[Symbol.asyncIterator]();
    const next = async () => {
      const { value } = await responses.next();
      await say(value as DiscoveryResponse);
      return textsOf(value as DiscoveryResponse);
    };
    return { next };
  };
  return { path, secrets, ask };
}

test("the certificate and the roots are told by name, and told again when they change", async () => {
  const { secrets, ask } = await scene();
  const own = await ask(["default"]);
  const roots = await ask(["ROOTCA"]);
  expect(await own.next()).toEqual([["default", "chain 1", "key 1"]]);
  expect(await roots.next()).toEqual([["ROOTCA", "roots 1"]]);
  secrets.set(secretsOf("2"));
  expect(await own.next()).toEqual([["default", "chain 2", "key 2"]]);
  expect(await roots.next()).toEqual([["ROOTCA", "roots 2"]]);
});

test("no other secret is told, whoever asks for which", async () => {
  const { ask } = await scene();
  const told = await (await ask(["default", "other", "kubernetes://key", ""])).next();
  expect(told.map(([name]) => name)).toEqual(["default"]);
});

test("only this user can open the socket", async () => {
  const { path } = await scene();
  expect(statSync(path).mode & 0o777).toBe(0o600);
});
