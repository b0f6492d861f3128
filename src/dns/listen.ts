import { Failure } from "../base/index.ts";
import { formatSocketAddress, type SocketAddress } from "../values/index.ts";

/** Answers one query, at once or when another server has; undefined for what gets no answer. */
export type Answerer = (request: Buffer, transport: "udp" | "tcp") => Buffer | undefined | Promise<Buffer>;

/** The failure for an address that could not be bound. */
export function listenFailure(address: SocketAddress, transport: "udp" | "tcp", cause: Error): Failure {
  const code = (cause as NodeJS.ErrnoException).code;
  const where = `"${formatSocketAddress(address)}" (${transport})`;
  const whyAndHint: Record<string, readonly [why: string, hint: string]> = {
    EADDRINUSE: [
      "something else listens there",
      `find it with: ss -lnp${transport === "udp" ? "u" : "t"} 'sport = :${address.port}'`,
    ],
    EACCES: ["not allowed", "ports below 1024 need root or CAP_NET_BIND_SERVICE"],
    EADDRNOTAVAIL: ["this machine has no such address", "list its addresses with: ip address"],
    EAFNOSUPPORT: ["this machine does not speak that family of addresses", "leave the address out"],
  };
  const [why, hint] = whyAndHint[code ?? ""] ?? [cause.message, undefined];
  return new Failure("dns/listen-failed", `listening for DNS on ${where}: ${why}`, {
    cause,
    ...(hint ? { hint } : {}),
  });
}
