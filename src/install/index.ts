// Installation in Kubernetes: settings and profiles to objects (pure), and those applied, verified, switched and removed.
// Absent on purpose: an operator that runs in the cluster, and anything that is not found by its label again.
export { demoCacerts } from "./cluster/cacerts.ts";
export { type Change, changeLines } from "./cluster/changes.ts";
export { type Checked, checkTarget, checkTogether, type Facts } from "./cluster/checks.ts";
export { becomesDefault, type Installed, installedRevisions } from "./cluster/facts.ts";
export { type InstallPlan, installInto, plannedChanges } from "./cluster/install.ts";
export { rightsText, rightsToUninstall, rightsVerdict } from "./cluster/rights.ts";
export type { Progress, Target, Tell } from "./cluster/target.ts";
export { planUninstall, type UninstallPlan, type UninstallWish, uninstallFrom } from "./cluster/uninstall.ts";
export { planSwitch, removeRevision, type Switch, stillOn, switchTo } from "./cluster/upgrade.ts";
export {
  type GatewayAddress,
  injectedPods,
  serviceAddress,
  type Verified,
  verifyInstallation,
} from "./cluster/verify.ts";
export * from "./dns/index.ts";
export { writeChart } from "./helm/write.ts";
export { dnsService, egressName, fieldManager, ingressName, labelsOf, ownLabels, revisionNames } from "./names.ts";
export { gatewayPorts } from "./render/gateway.ts";
export { type RenderFacts, renderAll, renderStages } from "./render/manifest.ts";
export { mutualTls, passthrough } from "./render/mesh-rules.ts";
export { type Manifest, nameOf } from "./render/object.ts";
export { readSettings, type SettingsInput } from "./settings/read.ts";
export { type ProfileName, profileNames, type Settings } from "./settings/settings.ts";
