import type {
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
} from "../proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { type TypeUrl, typeUrls } from "../proto/index.ts";
import { writeDeltaRequest } from "./wire.ts";

/** A resource as it came: encoded still, for who knows the type. */
export interface Received {
  readonly name: string;
  readonly version: string;
  readonly bytes: Uint8Array;
}

/** What one response changes. */
export interface Change {
  readonly typeUrl: TypeUrl;
  readonly updated: readonly Received[];
  /** Names that are gone, or were asked for and are not there. */
  readonly removed: readonly string[];
}

/** A resource that was not taken, and why. Those beside it count as taken. */
export interface Refusal {
  readonly name: string;
  readonly reason: string;
}

/** What is wanted of one type. */
export interface Interest {
  /** All that there are. */
  readonly all: boolean;
  readonly names: ReadonlySet<string>;
}

interface OfType {
  all: boolean;
  names: ReadonlySet<string>;
  readonly versionByName: Map<string, string>;
  readonly refusedByName: Map<string, { readonly version: string; readonly reason: string }>;
}

const everything = "*";

/** What we asked for, have and refused, over all streams to come. Makes requests; sends none. */
export class ClientState {
  readonly #types = new Map<TypeUrl, OfType>();

  /**
   * What is held from an earlier life, before the first stream: only differences come then. Names that are not wanted are
   * left out.
   */
  seed(typeUrl: TypeUrl, versions: ReadonlyMap<string, string>): void {
    const type = this.#types.get(typeUrl);
    if (type) for (const [name, version] of versions) if (wanted(type, name)) type.versionByName.set(name, version);
  }

  /** The requests that open a stream: they say what is held already, so only differences come. */
  opening(): readonly DeltaDiscoveryRequest[] {
    const order = Object.values(typeUrls);
    return [...this.#types]
      .sort(([a], [b]) => order.indexOf(a) - order.indexOf(b))
      .map(([typeUrl, { all, names, versionByName }]) =>
        writeDeltaRequest({
          typeUrl,
          subscribe: all ? [everything, ...names] : [...names],
          held: versionByName,
        }),
      );
  }

  /** The request that changes what is wanted, or undefined when it changes nothing. What is let go is forgotten. */
  want(typeUrl: TypeUrl, interest: Interest): DeltaDiscoveryRequest | undefined {
    const before = this.#types.get(typeUrl);
    const subscribe = [...interest.names].filter((name) => !before?.names.has(name));
    const unsubscribe = [...(before?.names ?? [])].filter((name) => !interest.names.has(name));
    if (interest.all && !before?.all) subscribe.unshift(everything);
    if (!interest.all && before?.all) unsubscribe.unshift(everything);
    const now = before ?? { all: false, names: new Set(), versionByName: new Map(), refusedByName: new Map() };
    now.all = interest.all;
    now.names = new Set(interest.names);
    this.#types.set(typeUrl, now);
    if (subscribe.length === 0 && unsubscribe.length === 0) return undefined;
    for (const known of [now.versionByName, now.refusedByName])
      for (const name of known.keys()) if (!wanted(now, name)) known.delete(name);
    return writeDeltaRequest({ typeUrl, subscribe, unsubscribe });
  }

  /** What a response says, without what nobody asked for. Undefined for a type that nobody asked for. */
  read(response: DeltaDiscoveryResponse): Change | undefined {
    const type = this.#types.get(response.typeUrl as TypeUrl);
    if (!type) return undefined;
    const updated = new Map<string, Received>();
    for (const { name, version, resource } of response.resources) {
      if (resource && wanted(type, name)) updated.set(name, { name, version, bytes: resource.value });
    }
    return {
      typeUrl: response.typeUrl as TypeUrl,
      updated: [...updated.values()],
      removed: response.removedResources.filter((name) => wanted(type, name)),
    };
  }

  /** Notes what was taken of a change and what was not, and makes the answer. */
  settle(change: Change, nonce: string, refusals: readonly Refusal[]): DeltaDiscoveryRequest {
    const type = this.#types.get(change.typeUrl);
    const reasons = new Map(refusals.map(({ name, reason }) => [name, reason]));
    for (const name of change.removed) {
      type?.versionByName.delete(name);
      type?.refusedByName.delete(name);
    }
    for (const { name, version } of change.updated) {
      // It may have been let go while the change was being applied.
      if (!type || !wanted(type, name)) continue;
      const reason = reasons.get(name);
      if (reason === undefined) {
        type.versionByName.set(name, version);
        type.refusedByName.delete(name);
      } else type.refusedByName.set(name, { version, reason });
    }
    const reason = refusals.map(({ name, reason }) => `${name}: ${reason}`).join("\n");
    return writeDeltaRequest({
      typeUrl: change.typeUrl,
      nonce,
      reason: refusals.length === 0 ? undefined : reason,
    });
  }

  /** The versions that are held and in force. */
  held(typeUrl: TypeUrl): ReadonlyMap<string, string> {
    return this.#types.get(typeUrl)?.versionByName ?? new Map();
  }

  refused(typeUrl: TypeUrl): ReadonlyMap<string, { readonly version: string; readonly reason: string }> {
    return this.#types.get(typeUrl)?.refusedByName ?? new Map();
  }

  interest(typeUrl: TypeUrl): Interest {
    const type = this.#types.get(typeUrl);
    return { all: type?.all ?? false, names: type?.names ?? new Set() };
  }
}

function wanted(type: OfType, name: string): boolean {
  return type.all || type.names.has(name);
}
