import { type Clock, explain, type Logger } from "../../../src/base/index.ts";
import type { KubeClient } from "../../../src/kube/index.ts";
import type { NodeParts } from "./node-parts.ts";
import { time } from "./pod-status.ts";

/** Most that are remembered, so that one that keeps being said is written once. */
const mostRemembered = 1_000;

/** Writes events about pods. One that was written already is not written again; one that cannot be is left out. */
export function eventRecorder(options: {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly node: string;
  readonly log: Logger;
}): NodeParts["record"] {
  const { client, clock, node, log } = options;
  const said = new Set<string>();
  return (pod, type, reason, message) => {
    const { name, namespace, uid } = pod.metadata;
    log.info({ pod: `${namespace}/${name}`, reason, message }, "event");
    const key = `${uid} ${reason} ${message}`;
    if (said.has(key)) return;
    if (said.size >= mostRemembered) said.clear();
    said.add(key);
    const now = time(clock.now());
    client
      .json({
        method: "POST",
        path: `/api/v1/namespaces/${namespace}/events`,
        body: {
          apiVersion: "v1",
          kind: "Event",
          metadata: { generateName: `${name}.`, namespace },
          involvedObject: { apiVersion: "v1", kind: "Pod", name, namespace, uid },
          type,
          reason,
          message,
          firstTimestamp: now,
          lastTimestamp: now,
          count: 1,
          source: { component: "kubelet", host: node },
        },
      })
      .catch((caught) => log.debug({ error: explain(caught) }, "an event was not written"));
  };
}
