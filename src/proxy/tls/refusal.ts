import { Failure } from "../../base/index.ts";

/** What OpenSSL's verification codes mean for whoever must mend it. */
const causes: Readonly<Record<string, readonly [string, string]>> = {
  SELF_SIGNED_CERT_IN_CHAIN: ["is signed by a root that is not trusted here", "do both clusters share one root?"],
  DEPTH_ZERO_SELF_SIGNED_CERT: ["is self-signed and not trusted here", "do both clusters share one root?"],
  UNABLE_TO_GET_ISSUER_CERT: ["is signed by a root that is not trusted here", "do both clusters share one root?"],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: [
    "is signed by a root that is not trusted here",
    "do both clusters share one root, and does the chain hold every intermediate?",
  ],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: [
    "is signed by an authority that is not trusted here",
    "does the chain hold every intermediate?",
  ],
  CERT_SIGNATURE_FAILURE: [
    "has a signature that does not verify",
    "is a root of the same name but another key in use?",
  ],
  CERT_HAS_EXPIRED: ["has expired", "is the certificate renewed, and is the clock right?"],
  CERT_NOT_YET_VALID: ["is not valid yet", "are the clocks of both machines right?"],
  CERT_REVOKED: ["was revoked", "has it been replaced?"],
  INVALID_PURPOSE: ["may not be used for this side of a connection", "does it allow client and server authentication?"],
  INVALID_CA: ["is signed by a certificate that is no authority", "do the intermediates have CA set?"],
  PATH_LENGTH_EXCEEDED: ["has a longer chain than an authority in it allows", "what is its path length?"],
  CERT_CHAIN_TOO_LONG: ["has too long a chain", "which certificates are in it?"],
};

/** The failure for a certificate that did not verify: whose it is, what is wrong, what to try. */
export function untrusted(side: "client" | "server", code: string, identity: string | undefined): Failure {
  const [what, hint] = causes[code] ?? [`does not verify (${code})`, undefined];
  const whose = identity === undefined ? `the ${side}'s certificate` : `the ${side}'s certificate "${identity}"`;
  return new Failure(code === "CERT_HAS_EXPIRED" ? "tls/expired" : "tls/untrusted", `${whose} ${what}`, {
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The failure for a handshake that broke off. OpenSSL's reason is in `reason` or `code`. */
export function handshakeFailed(side: "client" | "server", caught: Error): Failure {
  const { code = "", reason } = caught as { code?: string; reason?: string };
  if (code.startsWith("ERR_TLS_HANDSHAKE_TIMEOUT"))
    return new Failure("tls/handshake-timeout", `the ${side} did not finish the TLS handshake in time`, {
      cause: caught,
    });
  if (code === "ECONNRESET" || code === "EPIPE")
    return new Failure("tls/handshake-closed", `the ${side} closed the connection during the TLS handshake`, {
      hint:
        side === "server" ? "does it speak TLS on this port, and does it trust our root?" : "does it trust our root?",
      cause: caught,
    });
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG")
    return new Failure("tls/not-tls", `the ${side} does not speak TLS on this port`, {
      hint: "does a sidecar stand in front of it?",
      cause: caught,
    });
  const alert = /alert (.+)$/.exec(reason ?? "")?.[1];
  return new Failure(
    "tls/handshake",
    alert
      ? `the ${side} refused the TLS handshake: ${alert}`
      : `TLS handshake with the ${side} failed: ${reason ?? caught.message}`,
    { cause: caught },
  );
}
