import { type Cell, explain, Failure, type Timer } from "../../base/index.ts";
import { type Collection, KubeRefusal, startReflector } from "../../kube/index.ts";
import { bundleStep, type FoundWebhooks, readWebhooks } from "./bundle-step.ts";
import type { DutyDeps } from "./duty.ts";
import { fieldManager, revisionNames } from "./names.ts";
import { startWriteQueue } from "./write-queue.ts";

const api = { group: "admissionregistration.k8s.io", version: "v1" } as const;
const kindsOf = {
  injector: { ...api, plural: "mutatingwebhookconfigurations", kind: "MutatingWebhookConfiguration" },
  validator: { ...api, plural: "validatingwebhookconfigurations", kind: "ValidatingWebhookConfiguration" },
} as const;
type Which = keyof typeof kindsOf;

/** A webhook that does not answer yet is tried again this often. */
const proveAgainMs = 5_000;

/**
 * Keeps our root in the webhook configurations of our revision, so that the API server believes our webhooks; and makes
 * the validating one strict once it is seen to serve: before, nobody could write anything.
 */
export function keepWebhookBundles(
  deps: DutyDeps & { readonly roots: Cell<string>; readonly revision: string; readonly systemNamespace: string },
): void {
  const { client, mandate, trouble, roots, revision, clock, random, log } = deps;
  const { scope } = mandate;
  const names = revisionNames(revision);
  const found = new Map<Which, FoundWebhooks>();
  let proven = false;
  let timer: Timer | undefined;
  scope.defer(() => timer?.cancel());
  const where = (which: Which) => `${kindsOf[which].kind} ${names[which]}`;

  async function write(key: string): Promise<void> {
    const which = key as Which;
    const bundle = Buffer.from(roots.value).toString("base64");
    const step = bundleStep(found.get(which), { bundle, revision, raise: which === "validator", proven });
    switch (step.kind) {
      case "none":
        return trouble.clear(where(which));
      case "foreign":
        return trouble.set(where(which), {
          severity: "error",
          code: "control/foreign-object",
          message: `"${names[which]}" is not of this control plane (its labels say whose it is) and is left as it is; the API server will not believe our webhook. Install this revision's own`,
        });
      case "prove": {
        const why = await whyNotServing(deps);
        proven = why === undefined;
        if (proven) return queue.poke(which);
        trouble.set(where(which), {
          severity: "warning",
          code: "control/webhook-unproven",
          message: `stays at failurePolicy Ignore, so wrong objects are let in: ${why}`,
        });
        timer?.cancel();
        timer = clock.after(proveAgainMs, () => queue.poke(which), { background: true });
        return;
      }
      case "apply": {
        const { group, version, plural, kind } = kindsOf[which];
        await client.json({
          method: "PATCH",
          path: `/apis/${group}/${version}/${plural}/${names[which]}`,
          query: { fieldManager, force: true },
          contentType: "application/apply-patch+yaml",
          body: {
            apiVersion: `${group}/${version}`,
            kind,
            metadata: { name: names[which] },
            webhooks: step.webhooks,
          },
          signal: scope.signal,
        });
        log.info({ object: where(which) }, "webhook configuration put right");
      }
    }
  }

  const queue = startWriteQueue(
    {
      write,
      holds: mandate.holds,
      onOutcome: (which, failure) => {
        if (failure) trouble.outcome(where(which as Which), failure);
      },
      perSecond: 5,
      clock,
      random,
      log,
    },
    scope,
  );
  scope.defer(
    roots.subscribe(() => {
      for (const which of found.keys()) queue.poke(which);
    }),
  );
  for (const which of Object.keys(kindsOf) as Which[]) {
    const collection: Collection = { ...kindsOf[which], only: names[which] };
    const set = (value: FoundWebhooks | undefined) => {
      if (value) found.set(which, value);
      else found.delete(which);
      queue.poke(which);
    };
    startReflector<FoundWebhooks>(
      {
        client,
        collection,
        read: readWebhooks,
        sink: {
          listed: (all) => set(all.get(names[which])),
          changed: (changes) => {
            for (const change of changes) set(change.kind === "set" ? change.value : undefined);
          },
          health: (health) => {
            if (health.kind === "behind") trouble.outcome(where(which), health.failure);
            else queue.poke(which);
          },
        },
        clock,
        random,
      },
      scope,
    );
  }
}

/**
 * Tries the whole way: an object that can only be refused is offered to the API server, which is to keep nothing of it.
 * Undefined: our webhook refused it. Else why that cannot be said.
 */
async function whyNotServing({
  client,
  mandate,
  systemNamespace,
}: Pick<DutyDeps, "client" | "mandate"> & { readonly systemNamespace: string }): Promise<string | undefined> {
  const probe = {
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name: "isthmus-webhook-probe", namespace: systemNamespace },
    spec: { hosts: [] },
  };
  try {
    await client.json({
      method: "POST",
      path: `/apis/networking.istio.io/v1/namespaces/${systemNamespace}/serviceentries`,
      query: { dryRun: "All", fieldManager },
      body: probe,
      signal: mandate.scope.signal,
    });
    return "the API server did not ask the webhook about an object that it would have refused; is port 443 of the Service open to it?";
  } catch (caught) {
    if (caught instanceof KubeRefusal && /admission webhook .* denied/.test(caught.message)) return undefined;
    return `whether the webhook answers cannot be tried: ${explain(Failure.from(caught))}`;
  }
}
