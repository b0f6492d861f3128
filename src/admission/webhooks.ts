import type { Cell, Clock, Logger, Metrics, Scope } from "../base/index.ts";
import type { SocketAddress } from "../values/index.ts";
import type { ServerVersion } from "./server-version.ts";
import type { InjectionSettings } from "./settings.ts";

/** A server's certificate with the chain behind it, and its key. Whatever else is beside them does not matter. */
export interface ServingMaterial {
  readonly certChainPem: string;
  readonly privateKeyPem: string;
}

export interface WebhookOptions {
  readonly listen: SocketAddress;
  /** Followed: a new certificate serves new connections, and those that are open go on. */
  readonly material: Cell<ServingMaterial>;
  /** Followed, see `startSettingsFile`. */
  readonly settings: Cell<InjectionSettings>;
  /** Of the API server, for `nativeSidecars: auto`; see `startServerVersion`. Undefined while it is not known. */
  readonly serverVersion: Cell<ServerVersion | undefined>;
}

/**
 * The webhooks `POST /inject` and `POST /validate` over HTTPS, and `GET /ready`. Resolves with the bound address; on
 * closing, what is being answered is answered first. Throws `webhooks/listen` when the address cannot be had.
 */
export async function startWebhooks(
  _options: WebhookOptions,
  _deps: { readonly clock: Clock; readonly log: Logger; readonly metrics: Metrics },
  _scope: Scope,
): Promise<SocketAddress> {
  throw new Error("BUG: not written yet");
}
