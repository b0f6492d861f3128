import { create, fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryResponseSchema,
  DiscoveryResponseSchema,
} from "../proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { type Snapshot, type TypeUrl, typeUrls, type Versioned } from "../proto/index.ts";
import { ClientState } from "./client-state.ts";
import { Session } from "./session.ts";
import { encodeDeltaResponse, encodeResponse, readDeltaRequest } from "./wire.ts";

const limits = { maxNames: 1000, maxTypes: 10 };
const wholes: readonly TypeUrl[] = [typeUrls.cluster, typeUrls.listener];
const named: readonly TypeUrl[] = [typeUrls.endpoints, typeUrls.route];

function resource(name: string, version: string): Versioned {
  return { name, version, bytes: Buffer.from(`${name}@${version}`), origins: [] };
}

/** A snapshot from rows of type, name, version. A version that starts with "bad" is one that the client refuses. */
function snapshotOf(content: ReadonlyMap<TypeUrl, ReadonlyMap<string, string>>): Snapshot {
  return new Map(
    [...content].map(([typeUrl, versions]) => [
      typeUrl,
      new Map([...versions].map(([name, version]) => [name, resource(name, version)])),
    ]),
  );
}

/** Server's and client's halves, back to back: what one says the other hears, when `deliver` says so. */
class Joined {
  snapshot: Snapshot = new Map();
  readonly client = new ClientState();
  /** What the client runs, by type and name. */
  readonly running = new Map<TypeUrl, Map<string, string>>();
  #session: Session | undefined;
  #toServer: DeltaDiscoveryRequest[] = [];
  #toClient: Uint8Array[] = [];
  said = 0;
  /** Versions of the resources that were sent, all together. */
  readonly sent: string[] = [];

  constructor() {
    for (const typeUrl of wholes) this.client.want(typeUrl, { all: true, names: new Set() });
  }

  connect(): void {
    this.#session = new Session("delta", limits);
    this.#toClient = [];
    this.#toServer = [...this.client.opening()];
  }

  want(typeUrl: TypeUrl, names: ReadonlySet<string>): void {
    const request = this.client.want(typeUrl, { all: false, names });
    const running = this.running.get(typeUrl);
    for (const name of running?.keys() ?? []) if (!names.has(name)) running?.delete(name);
    if (request && this.#session) this.#toServer.push(request);
  }

  /** One step of one side. False when neither has anything to do. */
  step(who: "server hears" | "server says" | "client hears"): boolean {
    if (who === "server hears") {
      const request = this.#toServer.shift();
      if (!request || !this.#session) return false;
      expect(this.#session.hear(request.typeUrl, readDeltaRequest(request)).kind).not.toBe("excessive");
      return true;
    }
    if (who === "server says") {
      const say = this.#session?.next(this.snapshot);
      if (!say) return false;
      this.said++;
      this.sent.push(...say.resources.map(({ version }) => version));
      this.#toClient.push(encodeDeltaResponse(say));
      return true;
    }
    const bytes = this.#toClient.shift();
    if (!bytes) return false;
    const response = fromBinary(DeltaDiscoveryResponseSchema, bytes);
    const change = this.client.read(response);
    if (!change) throw new Error(`nobody asked for ${response.typeUrl}`);
    const running = this.running.get(change.typeUrl) ?? new Map<string, string>();
    this.running.set(change.typeUrl, running);
    for (const name of change.removed) running.delete(name);
    const refusals = change.updated.filter(({ version }) => version.startsWith("bad"));
    for (const received of change.updated) {
      expect(Buffer.from(received.bytes).toString()).toBe(`${received.name}@${received.version}`);
      if (!received.version.startsWith("bad")) running.set(received.name, received.version);
    }
    const answer = this.client.settle(
      change,
      response.nonce,
      refusals.map(({ name }) => ({ name, reason: "bad" })),
    );
    this.#toServer.push(answer);
    return true;
  }

  /** Lets both talk until they have nothing more to say. A loop of pushes would never get there. */
  quiet(): void {
    for (let steps = 0; ; steps++) {
      if (steps > 500) throw new Error("they never stop talking");
      const moved = (["server hears", "server says", "client hears"] as const).map((who) => this.step(who));
      if (!moved.includes(true)) return;
    }
  }
}

const names = ["a", "b", "c", "d"] as const;
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("edit" as const),
      type: fc.nat(3),
      name: fc.nat(3),
      version: fc.constantFrom("1", "2", "bad1", "bad2", "gone"),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("want" as const),
      type: fc.nat(1),
      names: fc.uniqueArray(fc.constantFrom(...names)),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reconnect" as const) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom("server hears" as const, "server says" as const, "client hears" as const),
    }),
  },
);

describe("whatever changes, drops and is refused", () => {
  test("after quiet the client runs what the snapshot says, but for what it refuses, and all is still", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const joined = new Joined();
        const content = new Map<TypeUrl, Map<string, string>>();
        joined.connect();
        for (const action of steps) {
          if (action.do === "edit") {
            const typeUrl = [...wholes, ...named][action.type]!;
            const versions = new Map(content.get(typeUrl));
            if (action.version === "gone") versions.delete(names[action.name]!);
            else versions.set(names[action.name]!, action.version);
            content.set(typeUrl, versions);
            joined.snapshot = snapshotOf(content);
          } else if (action.do === "want") joined.want(named[action.type]!, new Set(action.names));
          else if (action.do === "reconnect") joined.connect();
          else joined.step(action.do);
        }
        joined.quiet();
        for (const typeUrl of [...wholes, ...named]) {
          const { all, names: wantedNames } = joined.client.interest(typeUrl);
          const should = [...(content.get(typeUrl) ?? [])].filter(([name]) => all || wantedNames.has(name));
          const running = joined.running.get(typeUrl) ?? new Map<string, string>();
          const refused = joined.client.refused(typeUrl);
          for (const [name, version] of should) {
            if (version.startsWith("bad")) expect(refused.get(name)?.version, `${typeUrl} ${name}`).toBe(version);
            else expect(running.get(name), `${typeUrl} ${name}`).toBe(version);
          }
          const mayRun = new Set(should.map(([name]) => name));
          expect([...running.keys()].filter((name) => !mayRun.has(name))).toEqual([]);
        }
        const before = joined.said;
        joined.quiet();
        expect(joined.said).toBe(before);
        // On a new stream what is held is not sent again: an empty answer for each whole type, and what was refused.
        joined.connect();
        const sentBefore = joined.sent.length;
        joined.quiet();
        expect(joined.sent.slice(sentBefore).filter((version) => !version.startsWith("bad"))).toEqual([]);
        expect(joined.said - before).toBeLessThanOrEqual(4);
      }),
      { numRuns: 500 },
    );
  });

  test("a version that was refused is not sent again, a newer one is", () => {
    const joined = new Joined();
    joined.snapshot = snapshotOf(
      new Map([
        [
          typeUrls.cluster,
          new Map([
            ["a", "bad1"],
            ["b", "1"],
          ]),
        ],
      ]),
    );
    joined.connect();
    joined.quiet();
    const before = joined.said;
    joined.snapshot = snapshotOf(
      new Map([
        [
          typeUrls.cluster,
          new Map([
            ["a", "bad1"],
            ["b", "1"],
          ]),
        ],
      ]),
    );
    joined.quiet();
    expect(joined.said).toBe(before);
    joined.snapshot = snapshotOf(
      new Map([
        [
          typeUrls.cluster,
          new Map([
            ["a", "2"],
            ["b", "1"],
          ]),
        ],
      ]),
    );
    joined.quiet();
    expect(joined.said).toBe(before + 1);
    expect(joined.running.get(typeUrls.cluster)).toEqual(
      new Map([
        ["a", "2"],
        ["b", "1"],
      ]),
    );
  });
});

test("what is written by hand is what the generated code reads", () => {
  const say = {
    typeUrl: typeUrls.cluster,
    nonce: "7",
    resources: [resource("é|x", "v1"), resource("b".repeat(300), "")],
    changed: [],
    removed: ["gone", ""],
  };
  expect(fromBinary(DeltaDiscoveryResponseSchema, new Uint8Array(encodeDeltaResponse(say)))).toEqual(
    create(DeltaDiscoveryResponseSchema, {
      typeUrl: say.typeUrl,
      nonce: "7",
      resources: say.resources.map(({ name, version, bytes }) => ({
        name,
        version,
        resource: { typeUrl: say.typeUrl, value: new Uint8Array(bytes) },
      })),
      removedResources: say.removed,
    }),
  );
  expect(fromBinary(DiscoveryResponseSchema, new Uint8Array(encodeResponse(say)))).toEqual(
    create(DiscoveryResponseSchema, {
      typeUrl: say.typeUrl,
      nonce: "7",
      versionInfo: "7",
      resources: say.resources.map(({ bytes }) => ({ typeUrl: say.typeUrl, value: new Uint8Array(bytes) })),
    }),
  );
});
