import { askServerVersion, type ServerVersion } from "../../admission/index.ts";
import { explain, Failure } from "../../base/index.ts";
import type { KubeObject } from "../../kube/index.ts";
import { isOurs, revisionNames } from "../names.ts";
import { renderAll } from "../render/manifest.ts";
import { type Manifest, nameOf } from "../render/object.ts";
import type { Settings } from "../settings/settings.ts";
import { type CacertsState, cacertsState } from "./cacerts.ts";
import { becomesDefault, type Installed, installedRevisions, validatorTrusted } from "./facts.ts";
import { rightsText, rightsToInstall, rightsVerdict } from "./rights.ts";
import type { Target } from "./target.ts";

/** Oldest Kubernetes that is installed on: from here on all versions of the APIs that we write are served. */
const oldest: ServerVersion = { major: 1, minor: 25 };

/** What was found before anything is written. */
export interface Checked {
  /** Why nothing can be installed; each with what mends it. */
  readonly problems: readonly string[];
  /** What goes well, and may surprise. */
  readonly warnings: readonly string[];
  /** What was looked at and is good. */
  readonly notes: readonly string[];
  readonly facts: Facts;
}

export interface Facts {
  readonly version: ServerVersion | undefined;
  readonly installed: readonly Installed[];
  readonly isDefault: boolean;
  readonly trusted: boolean;
  readonly cacerts: CacertsState;
  /** Objects of ours-to-be that are there and belong to somebody else; they stay as they are. */
  readonly foreign: ReadonlySet<string>;
}

type Notebook = { readonly problems: string[]; readonly warnings: string[]; readonly notes: string[] };

/** Everything that can be known of a cluster beforehand. Throws only when the scope ends. */
export async function checkTarget(target: Target, settings: Settings): Promise<Checked> {
  const book: Notebook = { problems: [], warnings: [], notes: [] };
  const { api } = target;
  let facts: Facts = {
    version: undefined,
    installed: [],
    isDefault: true,
    trusted: false,
    cacerts: { kind: "missing" },
    foreign: new Set(),
  };
  try {
    const version = await askServerVersion(api.client, target.signal);
    facts = { ...facts, version };
    checkVersion(version, book);
  } catch (caught) {
    target.signal.throwIfAborted();
    // Without an answer there is nothing else to look at.
    book.problems.push(explain(caught));
    return { ...book, facts };
  }
  const look = async (what: string, work: () => Promise<void>) => {
    await work().catch((caught: unknown) => {
      target.signal.throwIfAborted();
      const failure = Failure.from(caught);
      // A right that is missing is said by the check of rights, with all others.
      if (failure.code !== "kube/forbidden") book.problems.push(`${what} cannot be looked at: ${explain(failure)}`);
    });
  };
  await look("earlier installations", async () => {
    const installed = await installedRevisions(api);
    const isDefault = becomesDefault(settings.revision, installed);
    facts = { ...facts, installed, isDefault };
    checkInstalled(installed, settings, book);
  });
  await look("the webhooks of an earlier installation", async () => {
    facts = { ...facts, trusted: await validatorTrusted(api, settings.revision) };
  });
  const manifests = renderAll(settings, facts);
  await look("objects that are there already", async () => {
    const foreign = await foreignObjects(target, { manifests, settings, book });
    facts = { ...facts, foreign };
  });
  const wanted = manifests.filter((manifest) => !facts.foreign.has(nameOf(manifest)));
  await Promise.all([
    look("the caller's rights", () => checkRights(target, { manifests: wanted, settings, book })),
    look("cacerts", async () => {
      const cacerts = await checkCacertsSecret(target, settings, book);
      facts = { ...facts, cacerts };
    }),
    look("webhooks of others", () => checkOtherInjectors(target, { settings, book, isDefault: facts.isDefault })),
    look("nodes", () => checkNodes(target, settings, book)),
  ]);
  return { ...book, facts };
}

function checkVersion({ major, minor }: ServerVersion, book: Notebook): void {
  if (major > oldest.major || (major === oldest.major && minor >= oldest.minor))
    book.notes.push(`Kubernetes ${major}.${minor}`);
  else
    book.problems.push(
      `Kubernetes ${major}.${minor} is too old: ${oldest.major}.${oldest.minor} or newer is needed; upgrade the cluster first`,
    );
}

function checkInstalled(installed: readonly Installed[], settings: Settings, book: Notebook): void {
  const { revision, namespace } = settings;
  const elsewhere = installed.filter((other) => other.namespace !== namespace);
  for (const other of elsewhere)
    book.problems.push(
      `revision "${other.revision}" is installed in namespace ${other.namespace}: a cluster has one namespace for the mesh; ` +
        `set namespace=${other.namespace}, or uninstall that one first`,
    );
  const same = installed.find((other) => other.revision === revision);
  if (same) book.notes.push(`revision "${revision}" is installed already, and is brought up to date`);
  const others = installed.filter((other) => other.revision !== revision).map((other) => `"${other.revision}"`);
  if (others.length > 0) book.notes.push(`beside revision ${others.join(", ")}`);
}

async function checkRights(
  { api }: Target,
  {
    manifests,
    settings,
    book,
  }: { readonly manifests: readonly Manifest[]; readonly settings: Settings; readonly book: Notebook },
): Promise<void> {
  const verdict = await rightsVerdict(api, rightsToInstall(manifests, settings.namespace));
  if (verdict.kind === "cluster-admin") book.notes.push("you are cluster-admin");
  else if (verdict.kind === "enough") book.notes.push("you have the rights that this takes");
  else
    book.problems.push(
      `you are not cluster-admin, and lack these rights; ask who is to install, or to grant them:\n${rightsText(
        verdict.rights,
      )
        .map((line) => `    ${line}`)
        .join("\n")}`,
    );
}

async function checkCacertsSecret(target: Target, settings: Settings, book: Notebook): Promise<CacertsState> {
  const { namespace, demoCertificates } = settings;
  const nowMs = target.clock.now();
  const state = await cacertsState(target.api, { namespace, nowMs, demoAllowed: demoCertificates });
  const load = `kubectl create secret generic cacerts -n ${namespace} --from-file=ca-cert.pem --from-file=ca-key.pem --from-file=root-cert.pem --from-file=cert-chain.pem`;
  if (state.kind === "missing" && !demoCertificates)
    book.problems.push(
      `there is no Secret cacerts in ${namespace}: make an intermediate below your root ` +
        `(isthmus ca intermediate --root ROOT --cluster ${settings.cluster} --out DIR), then, in that folder:\n` +
        `    kubectl create namespace ${namespace}\n    ${load}`,
    );
  if (state.kind === "wrong")
    book.problems.push(
      `Secret ${namespace}/cacerts cannot be used:\n${state.problems.map((line) => `    ${line}`).join("\n")}\n` +
        "    mend: make the four files anew with isthmus ca intermediate, delete the Secret, and load them again",
    );
  if (state.kind === "sound") {
    const month = 30 * 86_400_000;
    book.notes.push(`cacerts is sound (root ${state.root})`);
    if (state.notAfter - nowMs < month)
      book.warnings.push(`cacerts ends at ${new Date(state.notAfter).toISOString()}: renew it before`);
    if (state.demo) book.warnings.push("cacerts was made by a demo: its keys are nobody's secret");
  }
  return state;
}

/** What bears a name of ours and is somebody else's. */
async function foreignObjects(
  { api }: Target,
  {
    manifests,
    settings,
    book,
  }: { readonly manifests: readonly Manifest[]; readonly settings: Settings; readonly book: Notebook },
): Promise<ReadonlySet<string>> {
  const foreign = new Set<string>();
  const found = await Promise.all(manifests.map(async (manifest) => ({ manifest, live: await api.get(manifest) })));
  for (const { manifest, live } of found) {
    if (!live || isOurs(live)) continue;
    const name = nameOf(manifest);
    if (manifest.kind === "Namespace") {
      foreign.add(name);
      book.notes.push(`namespace ${settings.namespace} is there, and stays yours`);
    } else if (manifest.kind === "CustomResourceDefinition") {
      foreign.add(name);
      const lacking = missingVersions(live, manifest);
      if (lacking.length === 0)
        book.notes.push(`${manifest.metadata.name} is there, made by somebody else, and stays as it is`);
      else
        book.problems.push(
          `${manifest.metadata.name} is there, made by somebody else, and does not serve ${lacking.join(", ")}: ` +
            "bring that definition up to date, or remove it if nobody needs it",
        );
    } else {
      book.warnings.push(
        `${name} is there, made by somebody else: it is taken only as far as nobody else owns its fields`,
      );
    }
  }
  return foreign;
}

interface Definition {
  readonly spec?: { readonly versions?: ReadonlyArray<{ readonly name: string; readonly served?: boolean }> };
}

/** Of the versions in which we write objects and people write theirs, those that a definition does not serve. */
function missingVersions(live: KubeObject, wanted: Manifest): readonly string[] {
  const served = ((live as Definition).spec?.versions ?? []).filter((version) => version.served === true);
  const names = ((wanted as Definition).spec?.versions ?? []).map(({ name }) => name);
  const known = served.map(({ name }) => name);
  // The guide's resources are v1alpha3; a newer definition that lost it would refuse them.
  return known.includes("v1alpha3") ? [] : names.filter((name) => name === "v1alpha3");
}

async function checkOtherInjectors(
  { api }: Target,
  { settings, book, isDefault }: { readonly settings: Settings; readonly book: Notebook; readonly isDefault: boolean },
): Promise<void> {
  const apiVersion = "admissionregistration.k8s.io/v1";
  const all = await api.list({ apiVersion, kind: "MutatingWebhookConfiguration" });
  for (const other of all) {
    if (isOurs(other) || other.metadata.name === revisionNames(settings.revision).injector) continue;
    const text = JSON.stringify(other["webhooks"] ?? []);
    const same = (isDefault && text.includes("istio-injection")) || text.includes(`"istio.io/rev"`);
    if (same)
      book.warnings.push(
        `MutatingWebhookConfiguration ${other.metadata.name}, of another mesh, selects by the same labels: ` +
          "pods of such namespaces would get two sidecars; let each namespace name one mesh by istio.io/rev",
      );
  }
}

async function checkNodes({ api }: Target, settings: Settings, book: Notebook): Promise<void> {
  const nodes = await api.list({ apiVersion: "v1", kind: "Node" });
  if (nodes.length === 0) book.warnings.push("the cluster has no node yet: nothing will start before there is one");
  const { ingress } = settings.gateways;
  if (!ingress.enabled || ingress.type !== "LoadBalancer" || nodes.length === 0) return;
  const providers = nodes.map((node) => (node["spec"] as { providerID?: string } | undefined)?.providerID ?? "");
  if (providers.every((id) => id === "" || id.startsWith("kind:") || id.startsWith("k3s:")))
    book.warnings.push(
      "this cluster may have no load balancers: if the ingress gateway gets no address, use a node's with the node port of 15443 " +
        "(set gateways.ingress.nodePort to fix it)",
    );
}

/** What several clusters must have in common, and what they must not. */
export function checkTogether(
  clusters: ReadonlyArray<{ readonly context: string; readonly settings: Settings; readonly checked: Checked }>,
): readonly string[] {
  const problems: string[] = [];
  const names = new Map<string, string>();
  for (const { context, settings } of clusters) {
    const other = names.get(settings.cluster);
    if (other !== undefined)
      problems.push(
        `"${other}" and "${context}" would both be cluster "${settings.cluster}": install one after the other, each with --set cluster=NAME`,
      );
    names.set(settings.cluster, context);
  }
  const roots = new Map<string, string[]>();
  for (const { context, checked } of clusters) {
    const { cacerts } = checked.facts;
    if (cacerts.kind === "sound") roots.set(cacerts.root, [...(roots.get(cacerts.root) ?? []), context]);
  }
  if (roots.size > 1) {
    const said = [...roots].map(([root, contexts]) => `${contexts.join(", ")} has root ${root}`);
    problems.push(`the clusters do not share one root, so they cannot call each other: ${said.join("; ")}`);
  }
  return problems;
}
