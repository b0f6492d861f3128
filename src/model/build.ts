import { changesBetween, type Hostname, type Ip, SortedMap } from "../values/index.ts";
import { type AutomaticStage, exhausted, nextAutomatic, noAutomatic } from "./automatic.ts";
import { checksAfter } from "./check.ts";
import { type ClaimStage, nextClaims, noClaims } from "./claims.ts";
import { type EntryStage, nextEntries, noEntries } from "./entry-stage.ts";
import { type FindingBook, listOf } from "./finding-book.ts";
import { buildGatewayServers } from "./gateways.ts";
import { emptyInput, type MeshInput } from "./input.ts";
import { type KubeStage, nextKube, noKube, renamed } from "./kube-stage.ts";
import { type MergedServices, nextServices, nothingMerged } from "./merge.ts";
import type { Mesh, MeshSettings, Workload } from "./mesh.ts";
import { buildRuleBook, noRules } from "./rules.ts";
import { nextSecrets } from "./secrets.ts";
import type { Service } from "./service.ts";
import { buildVirtualServices, noVirtualServices, type VirtualServiceBook } from "./virtual-services.ts";
import { nextWorkloads } from "./workloads.ts";

/** What a mesh was made from, kept beside it so that the next one does not begin at nothing. */
interface Stages {
  readonly view: MeshInput;
  readonly settings: MeshSettings;
  readonly workloads: SortedMap<string, Workload>;
  readonly kube: KubeStage;
  readonly claims: ClaimStage;
  readonly automatic: AutomaticStage;
  readonly entries: EntryStage;
  readonly merged: MergedServices;
  readonly rules: ReturnType<typeof buildRuleBook>;
  readonly virtualServices: VirtualServiceBook;
  readonly gateways: Mesh["gateways"];
  readonly secrets: Mesh["secrets"];
  readonly book: FindingBook;
  readonly findings: Mesh["findings"];
}

const stagesOf = new WeakMap<Mesh, Stages>();

const beginning: Omit<Stages, "settings"> = {
  view: emptyInput,
  workloads: SortedMap.empty(),
  kube: noKube,
  claims: noClaims,
  automatic: noAutomatic,
  entries: noEntries,
  merged: nothingMerged,
  rules: { book: noRules, findings: [] },
  virtualServices: noVirtualServices,
  gateways: Object.freeze([]),
  secrets: SortedMap.empty(),
  book: SortedMap.empty(),
  findings: Object.freeze([]),
};

/** Under other settings everything is made anew; only automatic addresses stay with their hosts. */
function startFrom(known: Stages | undefined, settings: MeshSettings): Stages {
  if (known?.settings === settings) return known;
  const { given, holders } = known?.automatic ?? noAutomatic;
  return { ...beginning, settings, automatic: { ...noAutomatic, given, holders } };
}

/**
 * Resources to the mesh. Pure: the same resources give an equal mesh, in whatever order they stand. With the mesh
 * before at hand only what the changed objects touch is made anew, and the rest is the same objects; without it, all
 * objects are changes to an empty mesh. (Automatic addresses are the one thing that remembers: a host keeps its own.)
 */
export function buildMesh(options: {
  readonly view: MeshInput;
  readonly settings: MeshSettings;
  readonly previous?: Mesh | undefined;
}): Mesh {
  const { view, settings, previous } = options;
  const before = startFrom(previous && stagesOf.get(previous), settings);
  const entryNews = changesBetween(before.view.ServiceEntry, view.ServiceEntry);
  const machineNews = changesBetween(before.view.Node, view.Node);
  const machines = renamed(before.kube.machines, machineNews, ({ metadata }) => metadata.name);
  const workloads = nextWorkloads(before.workloads, {
    pods: changesBetween(before.view.Pod, view.Pod),
    machines: machineNews,
    allPods: view.Pod.values(),
    machine: (name) => machines.get(name),
  });
  const workloadNews = changesBetween(before.workloads, workloads);
  const kube = nextKube(before.kube, {
    news: {
      services: changesBetween(before.view.Service, view.Service),
      slices: changesBetween(before.view.EndpointSlice, view.EndpointSlice),
      machines: machineNews,
      workloads: workloadNews,
    },
    workloads,
    settings,
  });
  const kubeNews = changesBetween(before.kube.services, kube.services);
  const claims = nextClaims(before.claims, { services: kubeNews, entries: entryNews });
  const automatic = nextAutomatic(before.automatic, { entries: entryNews, claims });
  const entries = nextEntries(before.entries, {
    news: {
      entries: entryNews,
      workloadEntries: changesBetween(before.view.WorkloadEntry, view.WorkloadEntry),
      workloads: workloadNews,
      addresses: claims.touched,
      automatic: changesBetween(before.automatic.given, automatic.given),
      namespaces: changesBetween(before.view.Namespace, view.Namespace),
      services: kubeNews,
    },
    services: kube.services,
    workloads,
    claims: claims.stage,
    automatic,
    settings,
  });
  const recordNews = changesBetween(before.entries.records, entries.records);
  const {
    merged,
    touched,
    findings: hostFindings,
  } = nextServices(before.merged, {
    left: [...present(kubeNews.map((one) => one.before)), ...recordNews.flatMap((one) => one.before?.services ?? [])],
    joined: [...present(kubeNews.map((one) => one.after)), ...recordNews.flatMap((one) => one.after?.services ?? [])],
  });
  const rules =
    before.view.DestinationRule === view.DestinationRule
      ? before.rules
      : buildRuleBook(view.DestinationRule.values(), settings);
  const virtualServices =
    before.view.VirtualService === view.VirtualService
      ? before.virtualServices
      : buildVirtualServices(view.VirtualService.values(), settings);
  const gateways = before.view.Gateway === view.Gateway ? before.gateways : buildGatewayServers(view.Gateway.values());
  const { services, contested, restricted, aliases, owned } = merged;
  const secrets = nextSecrets(before.secrets, changesBetween(before.view.Secret, view.Secret));
  const facts = {
    settings,
    services,
    contested,
    restricted,
    aliases,
    owned,
    rules: rules.book,
    virtualServices: virtualServices.routes,
    gateways,
    workloads,
    secrets,
  };
  const book = checksAfter(before.book, {
    mesh: facts,
    before: {
      rules: before.rules.book,
      virtualServices: before.virtualServices.routes,
      gateways: before.gateways,
      workloads: before.workloads,
      secrets: before.secrets,
    },
    touched,
    entries: changesBetween(before.entries.entries, entries.entries),
    found: [
      ...[...claims.findings].map(([ip, list]) => [`address/${ip}`, list] as const),
      ...[...hostFindings].map(([host, list]) => [`host/${host}`, list] as const),
      ["automatic", exhausted(automatic)],
      ["rules", rules.findings],
      ["delegates", virtualServices.findings],
    ],
  });
  const findings = book === before.book ? before.findings : listOf(book, before.findings);
  const mesh: Mesh = Object.freeze({ ...facts, findings });
  stagesOf.set(mesh, {
    view,
    settings,
    workloads,
    kube,
    claims: claims.stage,
    automatic,
    entries,
    merged,
    rules,
    virtualServices,
    gateways,
    secrets,
    book,
    findings,
  });
  return mesh;
}

/** The addresses that a mesh gave by itself, by host. */
export function automaticAddresses(mesh: Mesh): SortedMap<Hostname, Ip> {
  return stagesOf.get(mesh)?.automatic.given ?? noAutomatic.given;
}

function present(services: ReadonlyArray<Service | undefined>): readonly Service[] {
  return services.filter((one) => one !== undefined);
}
