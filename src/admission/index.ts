// Kubernetes' webhooks: a sidecar put into pods, and objects judged before they are kept.
// Absent on purpose: the objects that tell the API server of the webhooks (install writes them), and who keeps the
// certificate fresh (the control plane).
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
export { type ServingMaterial, startWebhooks, type WebhookOptions } from "./webhooks.ts";
