import { readFile } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import type { GrpcChannel } from "../ads/index.ts";
import { type Clock, explain, Failure } from "../base/index.ts";
import { IstioCertificateRequestSchema, IstioCertificateService } from "../proto/gen/isthmus/ca/v1/ca_pb.js";

/** What a CA answers: PEM texts. */
export interface CertificateAnswer {
  readonly certificate: string;
  readonly intermediates: readonly string[];
  readonly roots: string;
}

/** Asks for a certificate for the key in `csr`. Throws a `Failure` when there is none to be had now. */
export type FetchCertificate = (
  csr: string,
  options: { readonly ttlMs: number | undefined; readonly signal: AbortSignal },
) => Promise<CertificateAnswer>;

/** Certificates from a CSR service. The caller proves who it is by the channel's client certificate or by the token. */
export function certificateClient(deps: {
  readonly channel: GrpcChannel;
  readonly clock: Clock;
  /** Read anew for each request: who renews the token writes over the file. */
  readonly tokenFile?: string;
  readonly clusterId?: string;
  /** 10 seconds unless told otherwise. */
  readonly timeoutMs?: number;
}): FetchCertificate {
  return async (csr, { ttlMs, signal }) => {
    const token = deps.tokenFile === undefined ? undefined : await readToken(deps.tokenFile);
    const answer = await deps.channel.unary(
      IstioCertificateService.method.createCertificate,
      create(IstioCertificateRequestSchema, {
        csr,
        validityDuration: ttlMs === undefined ? 0n : BigInt(Math.ceil(ttlMs / 1000)),
      }),
      {
        clock: deps.clock,
        timeoutMs: deps.timeoutMs ?? 10_000,
        signal,
        metadata: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(deps.clusterId === undefined ? {} : { clusterid: deps.clusterId }),
        },
      },
    );
    const [certificate, ...rest] = answer.certChain;
    const roots = rest.pop();
    if (certificate === undefined || roots === undefined)
      throw new Failure(
        "ca/bad-answer",
        `CA answered with ${answer.certChain.length} certificates: no leaf and root among them`,
      );
    return { certificate, intermediates: rest, roots };
  };
}

async function readToken(file: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new Failure("ca/token-unreadable", `token "${file}" cannot be read: ${explain(cause)}`, { cause });
  }
  const token = text.trim();
  // A header must hold nothing else; what it does hold is not for messages.
  if (!/^[A-Za-z0-9._~+/=-]+$/.test(token))
    throw new Failure("ca/token-unreadable", `"${file}" does not hold a bearer token`);
  return token;
}
