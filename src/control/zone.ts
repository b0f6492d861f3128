import { Cell, type Logger, type Scope } from "../base/index.ts";
import { buildZone, type Zone } from "../dns/index.ts";
import { type Mesh, type MeshSettings, type NameRecord, namesChanged, namesFor, namesOf } from "../model/index.ts";
import { type Hostname, parseHostname } from "../values/index.ts";

/** What the mesh answers for: names of other clusters, and the cluster's own domain. */
export function suffixesOf(settings: MeshSettings): readonly Hostname[] {
  return ["global", settings.clusterDomain].flatMap((suffix) => parseHostname(suffix) ?? []);
}

/**
 * The zone of the mesh, of now and after each change. A name that answers what it answered stays the same object, and
 * with it its encoding; when no name changed, which is so for most changes, the zone stays as well.
 */
export function startZone(
  deps: { readonly mesh: Cell<Mesh>; readonly settings: MeshSettings; readonly log: Logger },
  scope: Scope,
): Cell<Zone> {
  const { mesh, settings, log } = deps;
  let known = mesh.value;
  let names = namesFor(known);
  let serial = 1;
  const build = () => buildZone({ names, suffixes: suffixesOf(settings), searches: ["global"], serial });
  const zone = new Cell(build());
  scope.defer(
    mesh.subscribe((now) => {
      try {
        const next = sameNames(known, now) ? names : keepingSame(names, namesFor(now));
        known = now;
        if (next === names) return;
        names = next;
        serial += 1;
        zone.set(build());
      } catch (err) {
        // A bug of ours must not keep others from hearing of the change.
        log.error({ err }, "names not renewed, the last ones stay");
      }
    }),
  );
  return zone;
}

/** Whether all that changed between two meshes answers what it answered: then there is no need to look at every name. */
function sameNames(before: Mesh, after: Mesh): boolean {
  const recordsOf = (mesh: Mesh, host: Hostname) => {
    const service = mesh.services.get(host);
    return service ? namesOf(mesh, service) : [];
  };
  return [...namesChanged(before, after)].every((host) => {
    const [old, now] = [recordsOf(before, host), recordsOf(after, host)];
    return old.length === now.length && old.every((one, at) => one.name === now[at]!.name && sameAnswer(one, now[at]!));
  });
}

/** `after` with the records of `before` wherever they say the same; `before` itself when all do. */
export function keepingSame(before: readonly NameRecord[], after: readonly NameRecord[]): readonly NameRecord[] {
  let known: ReadonlyMap<Hostname, NameRecord> | undefined;
  let changed = before.length !== after.length;
  const kept = after.map((record, at) => {
    // Names come in one order, so nearly all stand where they stood.
    let earlier = before[at];
    if (earlier === record) return record;
    if (earlier?.name !== record.name) {
      known ??= new Map(before.map((one) => [one.name, one]));
      earlier = known.get(record.name);
    }
    const kept = earlier !== undefined && sameAnswer(earlier, record) ? earlier : record;
    if (kept !== before[at]) changed = true;
    return kept;
  });
  return changed ? kept : before;
}

function sameAnswer(one: NameRecord, other: NameRecord): boolean {
  return (
    one.addresses.length === other.addresses.length &&
    one.addresses.every((ip, at) => ip === other.addresses[at]) &&
    one.ports.length === other.ports.length &&
    one.ports.every((port, at) => {
      const same = other.ports[at]!;
      return port.name === same.name && port.transport === same.transport && port.port === same.port;
    })
  );
}
