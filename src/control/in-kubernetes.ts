import { type ServingMaterial, startServerVersion, startSettingsFile, startWebhooks } from "../admission/index.ts";
import type { AdsServer, TlsMaterial } from "../ads/index.ts";
import { Cell, type Scope } from "../base/index.ts";
import { type CacertsSource, createTokenReviewer, type TokenVerifier } from "../ca/index.ts";
import { createKubeClient } from "../kube/index.ts";
import { type Mesh, type MeshSettings, meshKinds } from "../model/index.ts";
import { followKubernetes, type KubernetesSource, type ResourceStore } from "../sources/index.ts";
import type { SocketAddress } from "../values/index.ts";
import { type LeaderWork, startLeaderWork } from "./cluster/leader-work.ts";
import { ObjectBook } from "./cluster/object-book.ts";
import { reviewBy } from "./cluster/token-review.ts";
import type { ControlConfig, ControlDeps, KubernetesConfig } from "./config.ts";
import type { Readiness } from "./readiness.ts";

/** What a control plane does with an API server. Each part is begun when what it needs is there. */
export interface InKubernetes {
  /** Asks the API server whose token one is. */
  readonly tokens: TokenVerifier;
  /** Reads the cluster's objects into the store from now on; returns when all have been read once. */
  follow(into: { readonly store: ResourceStore; readonly readiness: Readiness }): Promise<KubernetesSource>;
  startWebhooks(options: {
    readonly config: NonNullable<ControlConfig["webhooks"]>;
    readonly material: Cell<TlsMaterial>;
  }): Promise<SocketAddress>;
  /** Contends for being the replica that writes; undefined for one that may not. */
  contend(parts: {
    readonly store: ResourceStore;
    readonly mesh: Cell<Mesh>;
    readonly ads: AdsServer;
    readonly cacerts: CacertsSource;
  }): LeaderWork | undefined;
}

/** Below the folders: what an operator puts beside the program goes before what the cluster holds. */
const precedence = -1;

export function inKubernetes(
  {
    config,
    settings,
    deps,
  }: { readonly config: KubernetesConfig; readonly settings: MeshSettings; readonly deps: ControlDeps },
  scope: Scope,
): InKubernetes {
  const { clock, random } = deps;
  const { access, env, secretNamespaces, revision, me } = config;
  const { cluster, systemNamespace } = settings;
  const client = createKubeClient({ access, clock, env, userAgent: "isthmus-controlplane" }, scope);
  const book = new ObjectBook();
  return {
    tokens: createTokenReviewer({ review: reviewBy(client), clock }),

    async follow({ store, readiness }) {
      const log = deps.log.child({ part: "kubernetes" });
      log.info({ server: access.server }, "reading the cluster");
      const source = followKubernetes(
        {
          client,
          cluster,
          kinds: meshKinds,
          mayBeForbidden: ["Secret"],
          ...(secretNamespaces === undefined ? {} : { namespaces: { Secret: secretNamespaces } }),
          observer: book,
          store,
          clock,
          random,
          log,
          precedence,
        },
        scope,
      );
      readiness.waitFor("the cluster", () => {
        const behind = source.behind().map(({ kind, failure }) => `${kind} cannot be read: ${failure.message}`);
        return behind.length > 0 ? behind : ["it is being read for the first time"];
      });
      await source.first;
      readiness.done("the cluster");
      return source;
    },

    async startWebhooks({ config: { listen, injectionFile }, material: now }) {
      const material = new Cell<ServingMaterial>(now.value);
      scope.defer(now.subscribe((next) => material.set(next)));
      const log = deps.log.child({ part: "admission" });
      const injection = await startSettingsFile(injectionFile, { clock, log }, scope);
      const serverVersion = startServerVersion(client, { clock, log }, scope);
      return await startWebhooks({ listen, material, settings: injection, serverVersion }, { ...deps, log }, scope);
    },

    contend: ({ store, mesh, ads: { receipts }, cacerts }) =>
      config.writes
        ? startLeaderWork(
            { client, systemNamespace, cluster, revision, me, store, book, mesh, receipts, cacerts, ...deps },
            scope,
          )
        : undefined,
  };
}
