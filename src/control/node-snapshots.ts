import type { SnapshotSource } from "../ads/index.ts";
import type { Cell, Logger } from "../base/index.ts";
import type { Mesh } from "../model/index.ts";
import type { Snapshot } from "../proto/index.ts";
import { type ProxyNode, snapshotFor } from "../xds/index.ts";

/**
 * What one node should run, made when it is read: a change of the mesh only says that there is news, and the push queue
 * reads one proxy's snapshot a turn of the event loop, however many proxies are connected. A snapshot that cannot be made
 * is a bug of ours: it is said, and the node's last one stays.
 */
export function nodeSnapshots(
  mesh: Cell<Mesh>,
  { node, log }: { readonly node: ProxyNode; readonly log: Logger },
): SnapshotSource {
  let made: { readonly mesh: Mesh; readonly snapshot: Snapshot } | undefined;
  return {
    get value() {
      const now = mesh.value;
      if (made?.mesh === now) return made.snapshot;
      try {
        made = { mesh: now, snapshot: snapshotFor(now, node, made?.snapshot) };
      } catch (err) {
        if (!made) throw err;
        log.error({ err, node: node.id }, "configuration not made, the proxy keeps its last one");
        made = { mesh: now, snapshot: made.snapshot };
      }
      return made.snapshot;
    },
    subscribe: (notify) => mesh.subscribe(() => notify()),
  };
}
