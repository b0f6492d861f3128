// Kubernetes' webhooks: a sidecar put into pods, and objects judged before they are kept.
// Absent on purpose: the objects that tell the API server of the webhooks (install writes them), and who keeps the
// certificate fresh (the control plane).
export { type InjectDecision, injectKey, injects } from "./decide.ts";
export { type Injection, inject, type PodFacts, statusKey } from "./inject.ts";
export type { PodJson } from "./pod.ts";
export { readInjectionSettings, type SettingsReading } from "./read-settings.ts";
export {
  askServerVersion,
  hasNativeSidecars,
  readServerVersion,
  type ServerVersion,
  startServerVersion,
} from "./server-version.ts";
export {
  type CaptureSettings,
  type DataPlane,
  defaultInjectionSettings,
  type InjectionSettings,
  type LabelRequirement,
  type LabelSelector,
  type NativeSidecars,
  type OwnSettings,
  type Resources,
  writeInjectionSettings,
} from "./settings.ts";
export { settingsOf, startSettingsFile } from "./settings-file.ts";
export { injectTemplate, mapObjects, type TemplateInjection } from "./templates.ts";
export { type ServingMaterial, startWebhooks, type WebhookDeps, type WebhookOptions } from "./webhooks.ts";
