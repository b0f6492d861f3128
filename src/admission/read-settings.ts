import type { InjectionSettings } from "./settings.ts";

/** Settings, or everything that is wrong with them: `capture.excludeInboundPorts[0]: must be …`. */
export type SettingsReading =
  | { readonly outcome: "good"; readonly settings: InjectionSettings }
  | { readonly outcome: "wrong"; readonly problems: readonly string[] };

/** The text of `injection.json`, read strictly: every field must be there, and no other. Never throws. */
export function readInjectionSettings(_text: string): SettingsReading {
  return { outcome: "wrong", problems: ["not written yet"] };
}
